//! The one JVM in which all tools run (`tests/clients/tools/src/Driver.java`), from this side of the pipe.

use super::script::{Address, Call};
use crate::broker::{class_path, java};
use crate::steps::{Doing, Trouble};
use crate::workspace;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// What a tool left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// The JVM.
pub struct Driver {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    files: PathBuf,
    file_count: u32,
}

impl Driver {
    /// Starts it. `files` is a folder for the files that commands are given.
    pub fn start(files: &Path, log: &Path) -> Result<Driver, Trouble> {
        let mut command = java("tools");
        let classes = workspace::installed().join("driver/classes");
        let path = format!("{}:{}", classes.display(), class_path("tools"));
        // The archive of classes is for another class path; the JVM is not to say so.
        command.args([
            "-Xlog:disable",
            "-Xmx512m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "-cp",
            &path,
            "Driver",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut process = command.spawn().doing("starting the tools' JVM")?;
        let (Some(requests), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Trouble::new("the tools' JVM has no pipes"));
        };
        let answers = BufReader::new(answers);
        Ok(Driver { process, requests, answers, files: files.into(), file_count: 0 })
    }

    /// Runs one command against `bootstrap`; `data` stands for `{DATA}` in its arguments.
    pub fn run(&mut self, call: &Call, bootstrap: &str, data: &Path) -> Result<Output, Trouble> {
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push(match argument.strip_prefix('@').filter(|text| text.starts_with(['{', '='])) {
                Some(text) => self.file(text.trim_start_matches('='))?,
                None => argument.replace("{DATA}", &data.display().to_string()),
            });
        }
        let address = ["--bootstrap-server".to_owned(), bootstrap.to_owned()];
        match call.address {
            Address::First => arguments.splice(0..0, address).for_each(drop),
            Address::Last => arguments.extend(address),
            Address::None => {}
        }
        self.call(call.class, &call.input, &arguments)
    }

    /// Runs the tool of a main class.
    pub fn call(&mut self, class: &str, input: &str, arguments: &[String]) -> Result<Output, Trouble> {
        let mut line = format!("{} {}", encode(class), encode(input));
        for argument in arguments {
            line.push(' ');
            line.push_str(&encode(argument));
        }
        line.push('\n');
        self.requests.write_all(line.as_bytes()).doing("asking the tools' JVM")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).doing("reading from the tools' JVM")?;
        let fields: Vec<String> = answer.trim_end_matches('\n').split(' ').map(decode).collect();
        let [status, out, err] = &fields[..] else {
            return Err(Trouble::new(format!("the tools' JVM answered {answer:?} to {class} {arguments:?}")));
        };
        Ok(Output { status: status.parse().map_err(Trouble::new)?, out: out.clone(), err: err.clone() })
    }

    fn file(&mut self, text: &str) -> Result<String, Trouble> {
        self.file_count += 1;
        let path = self.files.join(format!("input-{}", self.file_count));
        fs::write(&path, text).doing(format!("writing {}", path.display()))?;
        Ok(path.display().to_string())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let is_padding = at > chunk.len();
            let letter = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            encoded.push(if is_padding { '=' } else { letter as char });
        }
    }
    encoded
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.bytes() {
        let Some(value) = ALPHABET.iter().position(|known| *known == letter) else { break };
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 255) as u8);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn base64_goes_both_ways() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(encode(plain), coded);
            assert_eq!(decode(coded), plain);
        }
    }
}
