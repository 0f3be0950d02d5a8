//! Every flip, cut and zeroed page of a small log.

use super::*;

/// A log of one small file, and where its frames end, the file's header first.
pub(super) fn small_log() -> (CrashVfs, Vec<u64>) {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 0);
    let mut ends = vec![writer.bytes()];
    for count in [1, 2, 1, 3] {
        write(&mut writer, count);
        ends.push(writer.bytes());
    }
    (vfs, ends)
}

const REACHED: [u64; 5] = [0, 1, 3, 4, 7];

/// What damage in bytes `from..` of the last file may do: a prefix that holds all frames before it, or an error.
fn prefix_or_error(vfs: &CrashVfs, ends: &[u64], from: u64, only_the_last: bool) {
    let sound = REACHED[ends.iter().filter(|&&end| end <= from).count().saturating_sub(1)];
    match check(vfs, 0, false) {
        Ok(replayed) => {
            assert!(
                replayed.last_seq >= sound,
                "lost commits before the damage at {from}"
            );
            assert!(REACHED.contains(&replayed.last_seq));
            if !only_the_last {
                assert!(
                    replayed.last_seq == 7 || replayed.last_seq == 4,
                    "skipped acknowledged commits in the middle, damage at {from}"
                );
            }
        }
        Err(Error::Corrupt { path, .. }) => assert_eq!(path, file(1)),
        Err(Error::Version { .. }) if from < 4096 => {}
        Err(error) => panic!("{error}"),
    }
    let salvaged = check(vfs, 0, true);
    assert!(salvaged.is_ok_and(|found| found.last_seq >= sound) || from < 4096);
}

#[test]
fn every_flipped_byte_gives_a_prefix_or_is_told() {
    let (vfs, ends) = small_log();
    let bytes = vfs.read(&file(1)).unwrap();
    let end = ends[4] as usize;
    for at in (0..64).chain(4096..end) {
        let mut flipped = bytes[..end + 64].to_vec();
        flipped[at] ^= 0x41;
        vfs.overwrite(&file(1), &flipped).unwrap();
        prefix_or_error(&vfs, &ends, at as u64, false);
    }
}

#[test]
fn every_truncation_gives_the_frames_before_it() {
    let (vfs, ends) = small_log();
    let bytes = vfs.read(&file(1)).unwrap();
    for at in 0..=ends[4] as usize {
        vfs.overwrite(&file(1), &bytes[..at]).unwrap();
        prefix_or_error(&vfs, &ends, at as u64, true);
    }
    // With a file after it, the same cuts are damage.
    let mut later = create(&vfs, 2, 7);
    write(&mut later, 1);
    for at in 4096..ends[4] as usize - 8 {
        vfs.overwrite(&file(1), &bytes[..at]).unwrap();
        let Err(Error::Corrupt { path, .. }) = check(&vfs, 0, false) else {
            panic!("commits before file 2 vanished at {at}");
        };
        assert_eq!(path, file(1));
    }
}

#[test]
fn every_zeroed_page_gives_a_prefix_or_is_told() {
    let vfs = disk();
    let mut writer = create(&vfs, 1, 0);
    while writer.bytes() < 60_000 {
        write(&mut writer, 3);
    }
    let last = writer.last_seq();
    let bytes = vfs.read(&file(1)).unwrap();
    for page in 0..15 {
        let mut zeroed = bytes.clone();
        zeroed[page * 4096..(page + 1) * 4096].fill(0);
        vfs.overwrite(&file(1), &zeroed).unwrap();
        let found = check(&vfs, 0, false);
        if (page as u64 + 1) * 4096 < writer.bytes() - 1024 {
            assert!(matches!(found, Err(Error::Corrupt { .. })), "page {page}");
        } else {
            assert!(found.is_ok_and(|found| found.last_seq <= last));
        }
    }
}

#[test]
fn a_stored_copy_of_a_log_is_not_taken_for_frames() {
    let (vfs, ends) = small_log();
    let copy = vfs.read(&file(1)).unwrap()[..ends[4] as usize].to_vec();
    let mut writer = next(&vfs, 0);
    let mut payload = (copy.len() as u32).to_le_bytes().to_vec();
    payload.extend_from_slice(&copy);
    payload.extend_from_slice(&[0; 4]);
    writer.write_frame(8, &payload, 2).unwrap();
    let mut bytes = vfs.read(&file(2)).unwrap();
    // Torn: its header never arrived.
    let at = bytes
        .windows(4)
        .rposition(|window| window == copy[..4].as_ref())
        .unwrap()
        - 36;
    bytes[at..at + 32].fill(0);
    vfs.overwrite(&file(2), &bytes).unwrap();
    assert_eq!(check(&vfs, 0, false).unwrap().last_seq, 7);
}
