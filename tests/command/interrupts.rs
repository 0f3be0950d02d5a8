//! Ctrl-C.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::place::{Place, Ran};

/// Sends Ctrl-C, and gives what became of the command, which must end within two seconds.
fn interrupted(child: std::process::Child) -> Ran {
    let asked = std::time::Instant::now();
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(
        asked.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    ran
}

// B69
#[test]
fn ctrl_c_ends_it_within_a_second_and_the_next_run_goes_on() {
    let place = Place::new();
    // Standard input that does not end: the run is surely under way.
    let (child, mut stdin) = place.add_from_stdin();
    let feeder = std::thread::spawn(move || {
        for n in 0..u64::MAX {
            if writeln!(stdin, "{{\"id\":{n},\"text\":\"passage number {n}\"}}").is_err() {
                return;
            }
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let ran = interrupted(child);
    feeder.join().unwrap();
    assert_eq!(ran.code, Some(3), "{} {}", ran.out, ran.err);
    assert!(!ran.out.contains("all was there"), "{}", ran.out);
    assert!(ran.err.contains("stopped"), "{}", ran.err);
    place.run(&["verify", "db"]).ok();
}

/// Encoding a corpus for its figures is stopped as `add` is.
#[test]
fn ctrl_c_ends_an_evaluation() {
    let place = Place::new();
    let text = "tree leaves depth page log vector layer database ".repeat(12);
    let passage = |i: usize| format!("{{\"id\":\"p{i}\",\"text\":\"{text}\"}}\n");
    place.write("corpus.jsonl", (0..60_000).map(passage).collect::<String>());
    let pipe = place.folder.path().join("questions");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for arguments in [&["evaluate"][..], &["layers", "--sample", "100000"]] {
        let from = ["--corpus", "corpus.jsonl", "--questions", "questions"];
        let mut command = place.command(&[arguments, &from].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        // Whoever opens the questions has read the passages.
        std::fs::write(&pipe, r#"{"id":"q","question":"tree","passage_id":"p7"}"#).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        let ran = interrupted(child.unwrap());
        assert_eq!(ran.code, Some(3), "{arguments:?}: {} {}", ran.out, ran.err);
        assert!(ran.err.contains("stopped"), "{}", ran.err);
    }
}

// B69
#[test]
fn ctrl_c_is_heard_while_standard_input_is_silent() {
    let place = Place::new();
    let (child, mut stdin) = place.add_from_stdin();
    writeln!(stdin, "{{\"id\":1,\"text\":\"the first\"}}").unwrap();
    stdin.write_all(b"{\"id\":2,\"text\":\"half a l").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let ran = interrupted(child);
    drop(stdin);
    assert_eq!(ran.code, Some(3), "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("stopped"), "{}", ran.err);
    place.run(&["verify", "db"]).ok();
    let got = place.run(&["get", "db", "2", "--number"]);
    assert_eq!(got.code, Some(5), "half a line is no document: {}", got.out);
}
