//! Opens two databases and works with both; prints nothing. Its tests watch what it does to the process.

use stratal::{Database, Document, Element};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    work()
}

fn work() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let first = Database::create(home.path().join("first"))?;
    let second = Database::options()
        .create(true)
        .threads(2)
        .open(home.path().join("second"))?;
    for db in [&first, &second] {
        let c = db.collection("c").vectors(3, ["v"], Element::F16).create()?;
        let mut tx = db.begin();
        for n in 0..500u64 {
            tx.insert(
                &c,
                Document::new(n).text("some text").vector([n as f32, 1.0, 2.0]),
            )?;
        }
        tx.commit()?;
        assert_eq!(c.search_vector([1.0, 0.0, 0.0]).k(3).run()?[0].id, 499u64.into());
        c.delete(499u64)?;
        assert_eq!(
            c.search_vectors([[1.0, 0.0, 0.0]; 40]).run()?[39][0].id,
            498u64.into()
        );
        db.compact()?;
        assert!(db.verify()?.is_sound());
        // Errors are values; none of them is printed either.
        assert!(Database::open(db.path()).is_err());
        assert!(c.insert(Document::new(1u64).vector([f32::NAN; 3])).is_err());
    }
    #[cfg(feature = "encoder")]
    encode(&first)?;
    first.close()?;
    drop(second);
    Ok(())
}

/// Text through the encoder, where one is at hand.
#[cfg(feature = "encoder")]
fn encode(db: &Database) -> Result<(), Box<dyn std::error::Error>> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let model = std::path::Path::new(&home).join(".cache/stratal/models/all-MiniLM-L6-v2");
    if !model.is_dir() {
        return Ok(());
    }
    let notes = db
        .collection("notes")
        .encoder(stratal::Encoder::from_folder(model)?)
        .create()?;
    let mut tx = db.begin();
    for n in 0..20u64 {
        tx.insert(&notes, Document::new(n).text(format!("document number {n}")))?;
    }
    tx.commit()?;
    assert_eq!(notes.search("number 7").k(20).run()?.len(), 20);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Every signal's action as the process has it.
    fn signal_actions() -> Vec<(i32, usize, i32)> {
        (1..32)
            .filter_map(|signal| {
                let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
                // SAFETY: a null new action only asks; `action` has room for the answer.
                let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
                // SAFETY: zeroed is a valid value, and the call fills it where it succeeds.
                let action = unsafe { action.assume_init() };
                (asked == 0).then_some((signal, action.sa_sigaction, action.sa_flags))
            })
            .collect()
    }

    #[test]
    fn no_signal_handler_is_set_and_the_global_pool_is_left_alone() {
        let before = signal_actions();
        super::work().unwrap();
        assert_eq!(signal_actions(), before);
        // It can be built once only: this fails if the library has used it.
        rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build_global()
            .unwrap();
    }

    #[test]
    fn nothing_is_printed() {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program)
            .args(["--exact", "tests::silent_child", "--nocapture", "--quiet"])
            .env("GUEST_CHILD", "1")
            .output()
            .unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let printed = String::from_utf8_lossy(&output.stdout);
        let (_, inside) = printed.split_once("GUEST BEGINS").unwrap();
        let (inside, _) = inside.split_once("GUEST ENDS").unwrap();
        assert_eq!(inside.trim(), "");
    }

    #[test]
    fn silent_child() {
        if std::env::var_os("GUEST_CHILD").is_some() {
            println!("GUEST BEGINS");
            super::work().unwrap();
            println!("GUEST ENDS");
        }
    }
}
