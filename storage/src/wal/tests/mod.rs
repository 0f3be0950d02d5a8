use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::vfs::CrashVfs;

mod damage;
mod power_cuts;
mod reading_beside;

const FOLDER: &str = "/db/wal";

fn disk() -> CrashVfs {
    let vfs = CrashVfs::new();
    vfs.create_folder(Path::new(FOLDER)).unwrap();
    vfs.sync_folder(Path::new("/")).unwrap();
    vfs.sync_folder(Path::new("/db")).unwrap();
    vfs
}

fn folder() -> &'static Path {
    Path::new(FOLDER)
}

fn file(number: u64) -> PathBuf {
    file_path(folder(), number)
}

/// The bytes of commit `seq`: its number, and a length that varies.
fn commit(seq: u64) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().to_vec();
    bytes.resize(8 + (seq as usize * 37) % 190, seq as u8);
    bytes
}

fn records(first: u64, count: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    for seq in first..first + u64::from(count) {
        let bytes = commit(seq);
        payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        payload.extend_from_slice(&bytes);
    }
    payload
}

fn create(vfs: &CrashVfs, number: u64, last_seq: u64) -> WalWriter {
    let previous = Some(number - 1).filter(|&previous| previous > 0);
    WalWriter::create(Arc::new(vfs.clone()), folder(), number, last_seq, previous).unwrap()
}

fn write(writer: &mut WalWriter, count: u32) {
    let first = writer.last_seq() + 1;
    writer.write_frame(first, &records(first, count), count).unwrap();
}

/// Replays and checks that every commit is the right one, without gaps.
fn check(vfs: &dyn Vfs, after: u64, salvage: bool) -> Result<Replayed> {
    let mut reached = after;
    let replayed = replay(vfs, folder(), after, salvage, &mut |seq, record| {
        assert_eq!(seq, reached + 1);
        assert_eq!(record, commit(seq));
        reached = seq;
        Ok(())
    })?;
    assert_eq!(replayed.last_seq, reached);
    Ok(replayed)
}

fn next(vfs: &CrashVfs, after: u64) -> WalWriter {
    let replayed = check(vfs, after, false).unwrap();
    WalWriter::continue_after(Arc::new(vfs.clone()), folder(), &replayed).unwrap()
}

#[test]
fn commits_come_back_in_order_over_several_files() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 0);
    write(&mut writer, 1);
    write(&mut writer, 5);
    let mut writer = create(&vfs, 2, 6);
    write(&mut writer, 3);
    let replayed = check(&vfs, 0, false).unwrap();
    assert_eq!((replayed.last_seq, replayed.next_file_number), (9, 3));
    assert_eq!(replayed.files.len(), 2);
    assert!(replayed.torn_tail.is_none() && replayed.damaged.is_none());
    // In the middle of a frame, too.
    assert_eq!(check(&vfs, 3, false).unwrap().last_seq, 9);
    assert!(check(&vfs, 9, false).unwrap().last_frame.is_none());
}

#[test]
fn large_frames_and_windows_of_zeros_leave_no_trace() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 0);
    let mut expected = Vec::new();
    for seq in 1..=40u64 {
        let bytes = vec![seq as u8; if seq % 7 == 0 { 1_500_000 } else { 60_000 }];
        let mut payload = (bytes.len() as u32).to_le_bytes().to_vec();
        payload.extend_from_slice(&bytes);
        writer.write_frame(seq, &payload, 1).unwrap();
        expected.push(bytes);
    }
    let mut found = Vec::new();
    replay(&vfs, folder(), 0, false, &mut |_, record| {
        found.push(record.to_vec());
        Ok(())
    })
    .unwrap();
    assert!(found == expected);
    assert_eq!(writer.syncs(), 41);
}

#[test]
fn numbers_that_do_not_follow_are_refused_before_anything_is_written() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 4);
    let error = writer.write_frame(4, &records(4, 1), 1).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }));
    write(&mut writer, 1);
    assert_eq!(check(&vfs, 4, false).unwrap().last_seq, 5);
}

#[test]
fn a_log_that_does_not_reach_the_manifest_is_damage() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 10);
    write(&mut writer, 1);
    assert!(matches!(check(&vfs, 9, false), Err(Error::Corrupt { .. })));
    assert!(check(&vfs, 10, false).is_ok());
}

#[test]
fn a_missing_file_in_the_middle_is_damage_and_named() {
    let vfs = disk();
    for (number, last) in [(1, 0), (2, 2), (3, 4)] {
        write(&mut create(&vfs, number, last), 2);
    }
    vfs.remove(&file(2)).unwrap();
    let Err(Error::Corrupt { path, .. }) = check(&vfs, 0, false) else {
        panic!("commits are missing");
    };
    assert_eq!(path, file(2));
    assert_eq!(check(&vfs, 0, true).unwrap().last_seq, 2);
    assert_eq!(check(&vfs, 4, false).unwrap().last_seq, 6);
}

// B02
#[test]
fn a_zeroed_header_is_harmless_before_the_first_commit_and_told_after_it() {
    let vfs = disk();
    write(&mut create(&vfs, 1, 0), 2);
    create(&vfs, 2, 2);
    let zero_head = |number| {
        let mut bytes = vfs.read(&file(number)).unwrap();
        bytes[..4096].fill(0);
        vfs.overwrite(&file(number), &bytes).unwrap();
    };
    zero_head(2);
    assert_eq!(check(&vfs, 0, false).unwrap().last_seq, 2);
    write(&mut next(&vfs, 0), 2);
    assert_eq!(check(&vfs, 0, false).unwrap().last_seq, 4);
    zero_head(3);
    let before = vfs.list(folder()).unwrap();
    let Err(Error::Corrupt { path, offset, .. }) = check(&vfs, 0, false) else {
        panic!("acknowledged commits vanished");
    };
    assert_eq!((path, offset), (file(3), 0));
    let salvaged = check(&vfs, 0, true).unwrap();
    assert_eq!(salvaged.last_seq, 4);
    assert!(matches!(salvaged.damaged, Some(Error::Corrupt { .. })));
    assert_eq!(vfs.list(folder()).unwrap(), before);
}

// B14
#[test]
fn a_newer_format_is_refused_by_name_and_a_newer_minor_one_is_read() {
    let vfs = disk();
    write(&mut create(&vfs, 1, 0), 2);
    let mut bytes = vfs.read(&file(1)).unwrap();
    bytes[10] = 7;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    vfs.overwrite(&file(1), &bytes).unwrap();
    assert_eq!(check(&vfs, 0, false).unwrap().last_seq, 2);
    bytes[8] = 2;
    vfs.overwrite(&file(1), &bytes).unwrap();
    let Err(Error::Version { found, .. }) = check(&vfs, 0, false) else {
        panic!("read a newer format");
    };
    assert_eq!(found, (2, 7));
    bytes[8] = 0;
    vfs.overwrite(&file(1), &bytes).unwrap();
    assert!(matches!(check(&vfs, 0, false), Err(Error::Corrupt { .. })));
}

// B17
#[test]
fn a_huge_length_in_a_frame_is_bounded_by_the_file() {
    let vfs = disk();
    write(&mut create(&vfs, 1, 0), 2);
    let mut bytes = vfs.read(&file(1)).unwrap();
    let mut header = FrameHeader::decode(&bytes[4096..], 1).unwrap();
    header.payload_bytes = u32::MAX;
    header.count = u32::MAX;
    bytes[4096..4128].copy_from_slice(&header.encode(1));
    vfs.overwrite(&file(1), &bytes).unwrap();
    assert_eq!(check(&vfs, 0, false).unwrap().last_seq, 0);
}

#[test]
fn names_that_are_not_ours_are_passed_over() {
    let vfs = disk();
    for name in [
        "notes.txt",
        "1.wal",
        "000000000000000A.wal",
        ".atomicX",
        "00000000000000001.wal",
    ] {
        vfs.create(&folder().join(name)).unwrap();
    }
    vfs.create_folder(&file(9)).unwrap();
    assert_eq!(list(&vfs, folder()).unwrap(), Vec::<u64>::new());
    assert_eq!(file_number(&file_name(0xBEEF)), Some(0xBEEF));
    assert_eq!(check(&vfs, 5, false).unwrap().next_file_number, 1);
}
