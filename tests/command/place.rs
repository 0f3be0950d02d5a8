//! A folder to run the command in, and what became of a run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub struct Place {
    pub folder: TempDir,
}

pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output, which must be JSON lines and nothing else.
    pub fn json(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    #[track_caller]
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn fails(self, code: i32, message: &str) -> Ran {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        assert!(self.err.contains(message), "{message:?} is not in {:?}", self.err);
        self
    }
}

impl Place {
    pub fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratal"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env(
                "STRATAL_MODEL",
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert"),
            )
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// `add` that reads JSON lines as they come.
    #[cfg(unix)]
    pub fn add_from_stdin(&self) -> (std::process::Child, std::process::ChildStdin) {
        let mut child = self
            .command(&["add", "db", "-", "-c", "notes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        (child, stdin)
    }

    pub fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        Ran::of(child.wait_with_output().unwrap())
    }

    /// A database of so many documents, whose texts are theirs alone.
    pub fn with_documents(count: usize) -> Place {
        let place = Place::new();
        let lines: String = (0..count)
            .map(|n| {
                format!(
                    "{{\"id\":\"d{n}\",\"title\":\"T{n}\",\"text\":\"passage number {n} {}\"}}\n",
                    "x".repeat(200)
                )
            })
            .collect();
        place.write("docs.jsonl", lines);
        place.run(&["add", "db", "docs.jsonl", "-c", "notes"]).ok();
        place
    }
}
