//! A reader beside the writer.

use super::damage::small_log;
use super::*;

fn poll(reader: &mut WalReader) -> Result<(Polled, Vec<u64>)> {
    let mut given = Vec::new();
    let polled = reader.poll(&mut |seq, record| {
        assert_eq!(record, commit(seq));
        given.push(seq);
        Ok(())
    })?;
    Ok((polled, given))
}

#[test]
fn a_reader_sees_every_commit_as_it_is_acknowledged() {
    let vfs = disk();
    let mut reader = WalReader::new(Arc::new(vfs.clone()), folder(), 0);
    assert_eq!(poll(&mut reader).unwrap(), (Polled::UpTo(0), vec![]));
    let mut writer = create(&vfs, 1, 0);
    assert_eq!(poll(&mut reader).unwrap().0, Polled::UpTo(0));
    for count in [1, 3, 2] {
        write(&mut writer, count);
        assert_eq!(poll(&mut reader).unwrap().0, Polled::UpTo(writer.last_seq()));
        assert!(poll(&mut reader).unwrap().1.is_empty());
    }
    // The writer goes on in a new file, and the old one is removed while the reader is at its end.
    let mut writer = create(&vfs, 2, 6);
    write(&mut writer, 1);
    remove_before(&vfs, folder(), 2).unwrap();
    assert_eq!(poll(&mut reader).unwrap(), (Polled::UpTo(7), vec![7]));
    // Another process opens: its file begins with the frame it carries over.
    let mut writer = next(&vfs, 6);
    write(&mut writer, 2);
    assert_eq!(poll(&mut reader).unwrap(), (Polled::UpTo(9), vec![8, 9]));
}

#[test]
fn a_reader_waits_for_a_frame_that_is_being_written() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 0);
    write(&mut writer, 1);
    let before = vfs.read(&file(1)).unwrap();
    write(&mut writer, 2);
    let whole = vfs.read(&file(1)).unwrap();
    let mut reader = WalReader::new(Arc::new(vfs.clone()), folder(), 0);
    for shown in (0..300).step_by(7) {
        let mut bytes = before.clone();
        let at = 4096 + 64 + shown;
        bytes[..at].copy_from_slice(&whole[..at]);
        vfs.overwrite(&file(1), &bytes).unwrap();
        let reached = poll(&mut reader).unwrap().0;
        assert!(reached == Polled::UpTo(1) || reached == Polled::UpTo(3));
    }
    vfs.overwrite(&file(1), &whole).unwrap();
    assert_eq!(poll(&mut reader).unwrap().0, Polled::UpTo(3));
}

#[test]
fn a_reader_left_behind_by_a_checkpoint_is_told() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 0);
    write(&mut writer, 1);
    let mut reader = WalReader::new(Arc::new(vfs.clone()), folder(), 0);
    assert_eq!(poll(&mut reader).unwrap().0, Polled::UpTo(1));
    let mut second = create(&vfs, 2, 1);
    write(&mut second, 1);
    let mut third = create(&vfs, 3, 2);
    write(&mut third, 1);
    remove_before(&vfs, folder(), 3).unwrap();
    assert_eq!(poll(&mut reader).unwrap(), (Polled::Gone, vec![]));
    let mut reader = WalReader::new(Arc::new(vfs.clone()), folder(), 1);
    assert_eq!(poll(&mut reader).unwrap().0, Polled::Gone);
    let mut reader = WalReader::new(Arc::new(vfs.clone()), folder(), 2);
    assert_eq!(poll(&mut reader).unwrap().0, Polled::UpTo(3));
}

#[test]
fn a_reader_tells_damage_in_the_middle() {
    let (vfs, ends) = small_log();
    let mut bytes = vfs.read(&file(1)).unwrap();
    bytes[ends[1] as usize + 40] ^= 1;
    vfs.overwrite(&file(1), &bytes).unwrap();
    let mut reader = WalReader::new(Arc::new(vfs), folder(), 0);
    assert!(matches!(poll(&mut reader), Err(Error::Corrupt { .. })));
}

#[test]
fn a_reader_at_the_end_of_a_removed_file_has_missed_nothing() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 0);
    write(&mut writer, 1);
    let mut reader = WalReader::new(Arc::new(vfs.clone()), folder(), 0);
    assert_eq!(poll(&mut reader).unwrap().0, Polled::UpTo(1));
    write(&mut writer, 2);
    // A checkpoint that no commit has followed yet.
    remove_before(&vfs, folder(), 2).unwrap();
    assert_eq!(poll(&mut reader).unwrap(), (Polled::UpTo(3), vec![2, 3]));
    assert_eq!(poll(&mut reader).unwrap(), (Polled::UpTo(3), vec![]));
    write(&mut create(&vfs, 2, 3), 1);
    assert_eq!(poll(&mut reader).unwrap(), (Polled::UpTo(4), vec![4]));
}
