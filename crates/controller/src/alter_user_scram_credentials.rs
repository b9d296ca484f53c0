//! AlterUserScramCredentials (51), version 0: a user's means to authenticate by SCRAM are set or deleted (KIP-554, RFC 5802).
//!
//! The tricky idea: the client sends the salted password; what is kept are the two keys made from it. They suffice to check who knows the
//! password, and do not tell it. A user is altered at most once by a request, whatever the mechanism.

use crate::context::{Context, Decision};
use crate::error::{ApiError, code_and_message};
use hmac::{Hmac, Mac};
use ottla_metadata::ScramUser;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use ottla_protocol::messages::alter_user_scram_credentials_response::{
    AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::remove_user_scram_credential_record::RemoveUserScramCredentialRecord;
use ottla_protocol::messages::user_scram_credential_record::UserScramCredentialRecord;
use sha2::{Digest, Sha256, Sha512};
use std::borrow::Cow;
use std::collections::BTreeMap;

const SHA_256: i8 = 1;
const SHA_512: i8 = 2;
/// Fewer iterations than these make a password easy to guess, more make it a burden to check (Kafka's `ScramMechanism`).
const ITERATIONS_MIN: i32 = 4_096;
const ITERATIONS_MAX: i32 = 16_384;

/// What the two keys are made from.
const CLIENT_KEY: &[u8] = b"Client Key";
const SERVER_KEY: &[u8] = b"Server Key";

/// Decides about credentials that the client may alter.
pub fn alter_user_scram_credentials(
    context: &Context<'_>,
    request: &AlterUserScramCredentialsRequest<'_>,
) -> Decision<AlterUserScramCredentialsResponse<'static>> {
    let mut outcomes: BTreeMap<&str, Result<MetadataRecord<'static>, ApiError>> = BTreeMap::new();
    let mut decide = |user, decided: &mut dyn FnMut() -> Result<MetadataRecord<'static>, ApiError>| {
        let outcome = match outcomes.contains_key(user) {
            true => refuse(
                ErrorCode::DuplicateResource,
                "A user credential cannot be altered twice in the same request",
            ),
            false => decided(),
        };
        outcomes.insert(user, outcome);
    };
    for deletion in &request.deletions {
        decide(&*deletion.name, &mut || delete(context, deletion));
    }
    for upsertion in &request.upsertions {
        decide(&*upsertion.name, &mut || upsert(context, upsertion));
    }
    let mut records = Vec::new();
    let results = outcomes.into_iter().map(|(user, outcome)| {
        let outcome = outcome.map(|record| records.push(record));
        let (error_code, error_message) = code_and_message(&outcome);
        AlterUserScramCredentialsResult { user: Cow::Owned(user.to_owned()), error_code, error_message }
    });
    let response = AlterUserScramCredentialsResponse { results: results.collect(), ..Default::default() };
    Decision::atomic(records, response)
}

fn refuse<T>(code: ErrorCode, message: &str) -> Result<T, ApiError> {
    Err(ApiError::new(code, message))
}

fn check(context: &Context<'_>, user: &str, mechanism: i8) -> Result<(), ApiError> {
    if !context.metadata_version().supports_scram() {
        return refuse(ErrorCode::UnsupportedVersion, "The current metadata.version does not support SCRAM");
    }
    if user.is_empty() {
        return refuse(ErrorCode::UnacceptableCredential, "Username must not be empty");
    }
    if ![SHA_256, SHA_512].contains(&mechanism) {
        return refuse(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism");
    }
    Ok(())
}

fn delete(
    context: &Context<'_>,
    deletion: &ScramCredentialDeletion<'_>,
) -> Result<MetadataRecord<'static>, ApiError> {
    let (user, mechanism) = (&*deletion.name, deletion.mechanism);
    check(context, user, mechanism)?;
    if !context.image.scram_credentials().contains_key(&ScramUser { mechanism, name: user.into() }) {
        return refuse(
            ErrorCode::ResourceNotFound,
            "Attempt to delete a user credential that does not exist",
        );
    }
    let record = RemoveUserScramCredentialRecord { name: Cow::Owned(user.to_owned()), mechanism };
    Ok(MetadataRecord::RemoveUserScramCredentialRecord(record))
}

fn upsert(
    context: &Context<'_>,
    upsertion: &ScramCredentialUpsertion<'_>,
) -> Result<MetadataRecord<'static>, ApiError> {
    check(context, &upsertion.name, upsertion.mechanism)?;
    if upsertion.iterations < ITERATIONS_MIN {
        return refuse(ErrorCode::UnacceptableCredential, "Too few iterations");
    }
    if upsertion.iterations > ITERATIONS_MAX {
        return refuse(ErrorCode::UnacceptableCredential, "Too many iterations");
    }
    let record = scram_credential(
        &upsertion.name,
        upsertion.mechanism,
        &upsertion.salt,
        upsertion.iterations,
        &upsertion.salted_password,
    );
    Ok(MetadataRecord::UserScramCredentialRecord(record))
}

/// The record of a credential (RFC 5802): keys are kept, from which the password can not be told. `mechanism`: 1 is SCRAM-SHA-256, 2
/// SCRAM-SHA-512.
pub fn scram_credential(
    name: &str,
    mechanism: i8,
    salt: &[u8],
    iterations: i32,
    salted_password: &[u8],
) -> UserScramCredentialRecord<'static> {
    let (stored_key, server_key) = match mechanism {
        SHA_256 => {
            let stored_key = Sha256::digest(hmac_sha256(salted_password, CLIENT_KEY)).to_vec();
            (stored_key, hmac_sha256(salted_password, SERVER_KEY))
        }
        _ => {
            let stored_key = Sha512::digest(hmac_sha512(salted_password, CLIENT_KEY)).to_vec();
            (stored_key, hmac_sha512(salted_password, SERVER_KEY))
        }
    };
    UserScramCredentialRecord {
        name: Cow::Owned(name.to_owned()),
        mechanism,
        salt: Cow::Owned(salt.to_vec()),
        stored_key: Cow::Owned(stored_key),
        server_key: Cow::Owned(server_key),
        iterations,
    }
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

fn hmac_sha512(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha512>::new_from_slice(key).expect("a key of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_hashes() {
        // RFC 4231, test case 2.
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (key, text) = (b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex(hmac_sha256(key, text)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert!(hex(hmac_sha512(key, text)).starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd6"));
    }
}
