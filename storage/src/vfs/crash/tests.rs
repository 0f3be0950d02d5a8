use super::*;

const SEEDS: std::ops::Range<u64> = 0..300;

fn folder() -> CrashVfs {
    let vfs = CrashVfs::new();
    vfs.create_folder(Path::new("/db")).unwrap();
    vfs.sync_folder(Path::new("/")).unwrap();
    vfs
}

fn path(name: &str) -> PathBuf {
    Path::new("/db").join(name)
}

#[test]
fn what_was_synced_survives_every_cut() {
    let vfs = folder();
    let file = vfs.create(&path("a")).unwrap();
    file.write_at(&[7; 5000], 0).unwrap();
    file.sync_data().unwrap();
    vfs.sync_folder(Path::new("/db")).unwrap();
    file.write_at(&[9; 100], 9000).unwrap();
    for seed in SEEDS {
        let bytes = vfs.crash(seed).read(&path("a")).unwrap();
        assert_eq!(bytes[..5000], [7; 5000]);
    }
}

#[test]
fn unsynced_writes_are_lost_kept_or_torn() {
    let vfs = folder();
    let file = vfs.create(&path("a")).unwrap();
    vfs.sync_folder(Path::new("/db")).unwrap();
    file.write_at(&[1; 2048], 0).unwrap();
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in SEEDS {
        let bytes = vfs.crash(seed).read(&path("a")).unwrap();
        match bytes.iter().filter(|&&byte| byte == 1).count() {
            0 => lost += 1,
            2048 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 10 && kept > 10 && torn > 10, "{lost} {kept} {torn}");
}

#[test]
fn a_rename_is_old_or_new_and_never_neither() {
    let vfs = folder();
    for (name, byte) in [("old", 1u8), ("new", 2)] {
        let file = vfs.create(&path(name)).unwrap();
        file.write_at(&[byte], 0).unwrap();
        file.sync_data().unwrap();
    }
    vfs.sync_folder(Path::new("/db")).unwrap();
    vfs.rename(&path("new"), &path("old")).unwrap();
    let mut seen = [0; 3];
    for seed in SEEDS {
        seen[usize::from(vfs.crash(seed).read(&path("old")).unwrap()[0])] += 1;
    }
    assert!(seen[1] > 10 && seen[2] > 10);
    vfs.sync_folder(Path::new("/db")).unwrap();
    for seed in SEEDS {
        let after = vfs.crash(seed);
        assert_eq!(after.read(&path("old")).unwrap(), [2]);
        assert!(!after.exists(&path("new")).unwrap());
    }
}

#[test]
fn a_new_file_needs_its_folder_synced() {
    let vfs = folder();
    let file = vfs.create(&path("a")).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    let lost = SEEDS
        .filter(|&seed| !vfs.crash(seed).exists(&path("a")).unwrap())
        .count();
    assert!(lost > 10 && lost < 290, "{lost}");
}

#[test]
fn equal_seeds_give_equal_disks() {
    let vfs = folder();
    let file = vfs.create(&path("a")).unwrap();
    vfs.sync_folder(Path::new("/db")).unwrap();
    for n in 0..20u8 {
        file.write_at(&[n; 700], u64::from(n) * 700).unwrap();
    }
    for seed in SEEDS {
        let (one, two) = (vfs.crash(seed), vfs.crash(seed));
        assert_eq!(one.read(&path("a")).unwrap(), two.read(&path("a")).unwrap());
    }
}

#[test]
fn a_lock_is_one_at_a_time_and_a_cut_frees_it() {
    let vfs = folder();
    let LockAttempt::Held(guard) = vfs.try_lock(&path("LOCK")).unwrap() else {
        panic!("refused");
    };
    assert!(matches!(
        vfs.try_lock(&path("LOCK")).unwrap(),
        LockAttempt::Busy(_)
    ));
    assert!(matches!(
        vfs.crash(1).try_lock(&path("LOCK")).unwrap(),
        LockAttempt::Held(_)
    ));
    drop(guard);
    assert!(matches!(
        vfs.try_lock(&path("LOCK")).unwrap(),
        LockAttempt::Held(_)
    ));
}

#[test]
fn removed_files_stay_readable_through_open_handles() {
    let vfs = folder();
    let file = vfs.create(&path("sub")).unwrap();
    file.write_at(b"abc", 0).unwrap();
    vfs.remove(&path("sub")).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 3);
    vfs.create_folder(&path("x/y")).unwrap();
    vfs.create(&path("x/y/z")).unwrap();
    assert_eq!(vfs.list(&path("x")).unwrap().len(), 1);
    vfs.rename(&path("x"), &path("w")).unwrap();
    assert!(vfs.exists(&path("w/y/z")).unwrap());
    vfs.remove_folder(&path("w")).unwrap();
    assert!(vfs.list(Path::new("/db")).unwrap().is_empty());
}
