//! Installing the clients, each with its language's own tool and registry configuration, below `target/clients`.
//!
//! Every set-up leaves a copy of the files that describe it (`.stamp`) and is skipped while they are unchanged.

use crate::broker::{class_archive, class_path, java_options};
use crate::steps::{self, Doing, Trouble};
use crate::workspace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type SetUp = fn(&Path) -> Result<(), Trouble>;

/// Installs whatever is missing, all languages at once; one line for each as it is done.
pub fn all() -> Result<(), Trouble> {
    let begun = Instant::now();
    let logs = workspace::logs("setup");
    fs::create_dir_all(&logs).doing("creating the log directory")?;
    let steps: [SetUp; 4] = [java, python, go, node];
    let outcomes: Vec<Result<(), Trouble>> = std::thread::scope(|scope| {
        let running: Vec<_> = steps.iter().map(|step| scope.spawn(|| step(&logs))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Trouble::new("a set-up step panicked"))))
            .collect()
    });
    outcomes.into_iter().collect::<Result<Vec<()>, Trouble>>()?;
    steps::say("clients are set up", begun.elapsed());
    Ok(())
}

/// Apache Kafka's jars by Maven (broker and client; tools), then our Java programs by the JDK's compiler.
fn java(logs: &Path) -> Result<(), Trouble> {
    for (jars, folder) in [("kafka", "java"), ("tools", "tools")] {
        let pom = workspace::suites().join(folder).join("pom.xml");
        let home = workspace::installed().join(jars);
        let Some(stamp) = Stamp::missing(&home, std::slice::from_ref(&pom))? else { continue };
        steps::must(&format!("setup: {jars} jars (Maven)"), &logs.join(format!("{jars}.log")), 2, || {
            let mut command = Command::new("mvn");
            command.args(["-B", "-ntp", "-q", "-f"]).arg(&pom).arg("dependency:copy-dependencies");
            command
                .arg("-DincludeScope=runtime")
                .arg(format!("-DoutputDirectory={}", home.join("libs").display()));
            command
        })?;
        if jars == "tools" {
            archive_classes(logs)?;
        }
        stamp.write()?;
    }
    compile("java", "kafka", "java", logs)?;
    compile("tools", "tools", "driver", logs)
}

/// Our Java sources of one folder, against one set of jars, into `installed/classes`.
fn compile(folder: &str, jars: &str, installed: &str, logs: &Path) -> Result<(), Trouble> {
    let mut sources = files_of(&workspace::suites().join(folder).join("src"), "java")?;
    sources.sort();
    let home = workspace::installed().join(installed);
    let mut inputs = sources.clone();
    inputs.push(workspace::suites().join(folder).join("pom.xml"));
    let Some(stamp) = Stamp::missing(&home, &inputs)? else { return Ok(()) };
    let log = logs.join(format!("javac-{folder}.log"));
    steps::must(&format!("setup: our programs of {folder} (javac)"), &log, 1, || {
        let mut command = Command::new("java");
        command.args(["-m", "jdk.compiler/com.sun.tools.javac.Main", "-Xlint:all", "-proc:none", "-d"]);
        command.arg(home.join("classes")).arg("-cp").arg(class_path(jars)).args(&sources);
        command
    })?;
    stamp.write()
}

/// Lets one tool run (in vain: nobody listens on port 1) and keeps the classes that it loaded, for all the later ones.
fn archive_classes(logs: &Path) -> Result<(), Trouble> {
    let begun = Instant::now();
    let config = workspace::installed().join("tools/impatient.properties");
    fs::write(&config, "default.api.timeout.ms=200\nrequest.timeout.ms=200\n")
        .doing("writing a configuration")?;
    let mut command = Command::new("java");
    command.arg(format!("-XX:ArchiveClassesAtExit={}", class_archive("tools").display()));
    command.args(java_options("tools")).arg("org.apache.kafka.tools.TopicCommand");
    command.args(["--list", "--bootstrap-server", "127.0.0.1:1", "--command-config"]).arg(&config);
    // It is meant to fail, and without an archive everything works as well, only slower.
    steps::run_logged(&mut command, &logs.join("archive.log"), Duration::from_secs(60))?;
    steps::say("setup: archive of the tools' classes", begun.elapsed());
    Ok(())
}

/// A virtual environment with the two Python clients.
fn python(logs: &Path) -> Result<(), Trouble> {
    let requirements = workspace::suites().join("python/requirements.txt");
    let home = workspace::installed().join("python");
    let Some(stamp) = Stamp::missing(&home, std::slice::from_ref(&requirements))? else { return Ok(()) };
    steps::must("setup: Python environment (venv)", &logs.join("venv.log"), 1, || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(&home);
        command
    })?;
    steps::must("setup: kafka-python, confluent-kafka (pip)", &logs.join("pip.log"), 2, || {
        let mut command = Command::new(home.join("bin/python"));
        command
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--only-binary", ":all:", "-r"])
            .arg(&requirements);
        command
    })?;
    stamp.write()
}

/// The version of Tansu that is measured beside: the newest that Rust 1.95 builds (from 0.7 on it is called Nisshi).
pub const TANSU: &str = "0.6.0";

/// Tansu from crates.io, with the engine that keeps everything in memory. Its five hundred crates take ten minutes on two processors, so
/// this is not part of [`all`].
pub fn tansu() -> Result<(), Trouble> {
    let logs = workspace::logs("setup");
    fs::create_dir_all(&logs).doing("creating the log directory")?;
    let home = workspace::installed().join("tansu");
    let Some(stamp) = Stamp::of(&home, TANSU.to_owned())? else { return Ok(()) };
    steps::must("setup: Tansu (cargo install)", &logs.join("tansu.log"), 1, || {
        let mut command = Command::new("cargo");
        command.args([
            "install",
            "tansu",
            "--version",
            TANSU,
            "--locked",
            "--features",
            "dynostore",
            "--root",
        ]);
        command.arg(&home);
        command.env("CARGO_TARGET_DIR", home.join("build"));
        command
    })?;
    fs::remove_dir_all(home.join("build")).doing("removing what building Tansu left")?;
    stamp.write()
}

/// The Go programs; Go's own cache decides what is to be done.
fn go(logs: &Path) -> Result<(), Trouble> {
    let home = workspace::installed().join("go");
    fs::create_dir_all(&home).doing("creating the folder of Go programs")?;
    steps::must("setup: franz-go programs (go build)", &logs.join("go.log"), 2, || {
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(&home).arg("./...").current_dir(workspace::suites().join("go"));
        command
    })
}

/// kafkajs and its codecs.
fn node(logs: &Path) -> Result<(), Trouble> {
    let package = workspace::suites().join("node/package.json");
    let home = workspace::installed().join("node");
    let Some(stamp) = Stamp::missing(&home, std::slice::from_ref(&package))? else { return Ok(()) };
    fs::create_dir_all(&home)?;
    fs::copy(&package, home.join("package.json")).doing("copying package.json")?;
    steps::must("setup: kafkajs (npm)", &logs.join("npm.log"), 2, || {
        let mut command = Command::new("npm");
        command.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]);
        command.current_dir(&home);
        command
    })?;
    stamp.write()
}

/// The description of an installation, kept beside it: equal means up to date.
struct Stamp {
    path: PathBuf,
    text: String,
}

impl Stamp {
    /// `None` when `home` was installed from exactly these `inputs`; else `home` is emptied and the stamp to write is given.
    fn missing(home: &Path, inputs: &[PathBuf]) -> Result<Option<Stamp>, Trouble> {
        let mut text = String::new();
        for input in inputs {
            text.push_str(&fs::read_to_string(input).doing(format!("reading {}", input.display()))?);
        }
        Stamp::of(home, text)
    }

    /// The same for a `home` that `text` describes.
    fn of(home: &Path, text: String) -> Result<Option<Stamp>, Trouble> {
        let path = home.join(".stamp");
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            return Ok(None);
        }
        steps::fresh_dir(home)?;
        Ok(Some(Stamp { path, text }))
    }

    fn write(self) -> Result<(), Trouble> {
        fs::write(&self.path, self.text).doing(format!("writing {}", self.path.display()))
    }
}

fn files_of(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Trouble> {
    let entries = fs::read_dir(folder).doing(format!("reading {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(files)
}
