//! `--add-scram`: credentials in the notation of Kafka's command line, `SCRAM-SHA-256=[name=alice,password=alice-secret]`
//! (`ScramParser`).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use ottla_broker::scram_credential;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use sha2::{Sha256, Sha512};

const ITERATIONS_DEFAULT: i32 = 4_096;
const ITERATIONS_MAX: i32 = 16_384;
const SALT_BYTES: usize = 32;

/// The record of a credential.
pub fn parse(text: &str) -> Result<MetadataRecord<'static>, String> {
    let wrong = |what: &str| format!("{text}: {what}");
    let (mechanism, rest) = text
        .trim()
        .split_once('=')
        .ok_or_else(|| wrong("write a credential as SCRAM-SHA-256=[name=alice,password=alice-secret]"))?;
    let (code, minimum) = match mechanism {
        "SCRAM-SHA-256" => (1, 4_096),
        "SCRAM-SHA-512" => (2, 4_096),
        other => return Err(format!("{other} is not a mechanism: use SCRAM-SHA-256 or SCRAM-SHA-512")),
    };
    let inside = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inside = inside.ok_or_else(|| wrong("what follows the mechanism stands between [ and ]"))?;
    let mut parts = BTreeMap::new();
    for part in inside.split(',') {
        let (key, value) =
            part.trim().split_once('=').ok_or_else(|| wrong("every part looks like key=value"))?;
        parts.insert(key, value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value));
    }
    let name = parts.remove("name").ok_or_else(|| wrong("name is missing"))?;
    let decode = |key: &str, value: &str| {
        STANDARD.decode(value).map_err(|_| wrong(&format!("{key} is not in base 64")))
    };
    let salt = parts.remove("salt").map(|value| decode("salt", value)).transpose()?;
    let iterations = match parts.remove("iterations") {
        None => ITERATIONS_DEFAULT,
        Some(value) => value.parse().map_err(|_| wrong("iterations is not a number"))?,
    };
    if !(minimum..=ITERATIONS_MAX).contains(&iterations) {
        return Err(wrong(&format!("iterations must be from {minimum} to {ITERATIONS_MAX}")));
    }
    let (password, salted) = (parts.remove("password"), parts.remove("saltedpassword"));
    if let Some(key) = parts.keys().next() {
        return Err(wrong(&format!(
            "{key} is not known: name, password, saltedpassword, salt, iterations are"
        )));
    }
    let (salt, salted) = match (password, salted, salt) {
        (Some(password), None, salt) => {
            let salt = salt.unwrap_or_else(|| rand::random::<[u8; SALT_BYTES]>().to_vec());
            let salted = salted_password(code, password.as_bytes(), &salt, iterations.unsigned_abs());
            (salt, salted)
        }
        (None, Some(salted), Some(salt)) => (salt, decode("saltedpassword", salted)?),
        (None, Some(_), None) => return Err(wrong("saltedpassword needs its salt")),
        _ => return Err(wrong("one of password and saltedpassword is needed")),
    };
    let record = scram_credential(name, code, &salt, iterations, &salted);
    Ok(MetadataRecord::UserScramCredentialRecord(record))
}

fn salted_password(mechanism: i8, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
    if mechanism == 1 {
        let mut salted = vec![0; 32];
        pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, iterations, &mut salted).expect("a key of any length");
        salted
    } else {
        let mut salted = vec![0; 64];
        pbkdf2::pbkdf2::<Hmac<Sha512>>(password, salt, iterations, &mut salted).expect("a key of any length");
        salted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(text: &str) -> (String, i8, i32, Vec<u8>) {
        match parse(text) {
            Ok(MetadataRecord::UserScramCredentialRecord(it)) => {
                (it.name.into_owned(), it.mechanism, it.iterations, it.stored_key.into_owned())
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    /// The exchange of RFC 7677: user `user`, password `pencil`.
    #[test]
    fn keys_as_in_the_rfc() {
        let by_password = credential(
            "SCRAM-SHA-256=[name=user,password=pencil,salt=\"W22ZaJ0SNY7soEsUEjb6gQ==\",iterations=4096]",
        );
        let key = STANDARD.decode("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=").expect("base 64");
        assert_eq!(by_password, ("user".to_owned(), 1, 4_096, key));
        let by_salted = credential(
            "SCRAM-SHA-256=[name=user,saltedpassword=xKSVEDI6tPlSysH6mUQZOeeOp01r6B3fcJbodRPcYV0=,salt=W22ZaJ0SNY7soEsUEjb6gQ==]",
        );
        assert_eq!(by_salted, by_password);
        assert_eq!(credential("SCRAM-SHA-512=[name=a,password=b,iterations=8192]").1, 2);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("alice", "write a credential"),
            ("PLAIN=[name=a,password=b]", "not a mechanism"),
            ("SCRAM-SHA-256=name=a", "between [ and ]"),
            ("SCRAM-SHA-256=[password=b]", "name is missing"),
            ("SCRAM-SHA-256=[name=a]", "one of password"),
            ("SCRAM-SHA-256=[name=a,saltedpassword=YQ==]", "needs its salt"),
            ("SCRAM-SHA-256=[name=a,password=b,salt=!]", "base 64"),
            ("SCRAM-SHA-256=[name=a,password=b,iterations=10]", "from 4096"),
            ("SCRAM-SHA-256=[name=a,password=b,pepper=c]", "pepper is not known"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
