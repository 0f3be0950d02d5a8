//! A log that lies: a sound one with changes, its checksums made right again. Also the body of the fuzz target.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use stratal_storage::Error;
use stratal_storage::vfs::{CrashVfs, Vfs};
use stratal_storage::wal::{
    FILE_HEADER_BYTES, FRAME_HEADER_BYTES, Polled, Records, WalReader, WalWriter, decode_frame, file_name,
    replay,
};

const FOLDER: &str = "/wal";
/// The last commits of the two sound files.
const ENDS: [u64; 2] = [7, 12];

fn path(number: u64) -> PathBuf {
    Path::new(FOLDER).join(file_name(number))
}

fn sound() -> CrashVfs {
    let vfs = CrashVfs::new();
    vfs.create_folder(Path::new(FOLDER)).expect("in memory");
    let mut last = 0;
    for (number, end) in (1..).zip(ENDS) {
        let previous = Some(number - 1).filter(|&previous| previous > 0);
        let inner: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let mut writer =
            WalWriter::create(inner, Path::new(FOLDER), number, last, previous).expect("in memory");
        while last < end {
            let count = (1 + last % 3).min(end - last) as u32;
            let mut records = Vec::new();
            for seq in last + 1..=last + u64::from(count) {
                records.extend_from_slice(&((seq * 5) as u32).to_le_bytes());
                records.resize(records.len() + seq as usize * 5, seq as u8);
            }
            writer.write_frame(last + 1, &records, count).expect("in memory");
            last += u64::from(count);
        }
    }
    vfs
}

/// The bytes that both sound files use, and so the places that changes can reach.
static SOUND: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let vfs = sound();
    [1, 2].map(|number| {
        let mut bytes = vfs.read(&path(number)).expect("in memory");
        let used = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        bytes.truncate(used.next_multiple_of(8) + 64);
        bytes
    })
});

/// Makes the checksums of the header and of every frame that can be found right.
fn seal(bytes: &mut [u8], number: u64) {
    if let Some(header) = bytes.get_mut(..64) {
        let crc = crc32fast::hash(&header[..60]).to_le_bytes();
        header[60..].copy_from_slice(&crc);
    }
    let mut at = FILE_HEADER_BYTES as usize;
    while let Some(frame) = bytes
        .get_mut(at..)
        .filter(|rest| rest.len() >= FRAME_HEADER_BYTES)
    {
        let length = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        if let Some(payload) = frame[FRAME_HEADER_BYTES..].get(..length) {
            let crc = crc32fast::hash(payload).to_le_bytes();
            frame[12..16].copy_from_slice(&crc);
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&number.to_le_bytes());
        crc.update(&frame[..28]);
        frame[28..32].copy_from_slice(&crc.finalize().to_le_bytes());
        at = (at + FRAME_HEADER_BYTES)
            .saturating_add(length)
            .next_multiple_of(8);
    }
}

/// Replays, salvages and follows the log that the input makes: no panic, no gap, and all three agree.
///
/// The first byte says which checksums are made right; then changes of five bytes each: a place (two bytes,
/// the highest bit is the file), and what is put there.
pub fn check(input: &[u8]) {
    let Some((&mode, changes)) = input.split_first() else {
        return;
    };
    let mut files = SOUND.clone();
    for change in changes.chunks_exact(5) {
        let place = u16::from_le_bytes([change[0], change[1]]);
        let file = &mut files[usize::from(place >> 15)];
        // The empty rest of the header's page is skipped.
        let mut at = usize::from(place & 0x7FFF) % (file.len() - 4096 + 64);
        if at >= 64 {
            at += 4096 - 64;
        }
        let end = (at + 3).min(file.len());
        file[at..end].copy_from_slice(&change[2..2 + end - at]);
    }
    let vfs = CrashVfs::new();
    vfs.create_folder(Path::new(FOLDER)).expect("in memory");
    for (number, bytes) in (1u64..).zip(&mut files) {
        if mode >> number & 1 == 1 {
            seal(bytes, number);
        }
        vfs.create(&path(number)).expect("in memory");
        vfs.overwrite(&path(number), bytes).expect("in memory");
        if let Some((header, payload)) = decode_frame(&bytes[FILE_HEADER_BYTES as usize..], number) {
            assert!(Records::new(payload, header.count).count() <= header.count as usize);
        }
    }
    let after = u64::from(mode >> 4);
    let run = |salvage| {
        let mut given = Vec::new();
        let replayed = replay(&vfs, Path::new(FOLDER), after, salvage, &mut |seq, record| {
            assert_eq!(seq, after + 1 + given.len() as u64, "a gap");
            given.push(record.to_vec());
            Ok(())
        });
        (replayed, given)
    };
    let (strict, given) = run(false);
    let (salvaged, kept) = run(true);
    assert!(kept.starts_with(&given));
    match &strict {
        Ok(replayed) => {
            assert_eq!(replayed.last_seq, after + given.len() as u64);
            assert_eq!(
                salvaged
                    .expect("as strict")
                    .damaged
                    .map(|damage| damage.to_string()),
                None
            );
            // The next writer goes on from there.
            let writer = WalWriter::continue_after(Arc::new(vfs.clone()), Path::new(FOLDER), replayed);
            assert_eq!(writer.expect("a sound log").last_seq(), replayed.last_seq);
            assert_eq!(run(false).1, given);
        }
        Err(Error::Corrupt { .. }) => assert!(salvaged.is_ok_and(|found| found.damaged.is_some())),
        Err(Error::Version { .. }) => assert!(salvaged.is_err()),
        Err(error) => panic!("{error}"),
    }
    let mut followed = Vec::new();
    let polled = WalReader::new(Arc::new(vfs), Path::new(FOLDER), after).poll(&mut |_, record| {
        followed.push(record.to_vec());
        Ok(())
    });
    if let (Ok(_), Ok(Polled::UpTo(_))) = (&strict, &polled) {
        assert_eq!(followed, given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(u64);

    impl Bytes {
        fn next(&mut self) -> u8 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 56) as u8
        }
    }

    // B17
    #[test]
    fn a_log_that_lies_with_right_checksums_is_never_believed_past_a_gap() {
        check(&[0]);
        check(&[6]);
        for seed in 0..4_000u64 {
            let mut bytes = Bytes(seed);
            let length = 1 + 5 * usize::from(bytes.next() % 4);
            let input: Vec<u8> = (0..length).map(|_| bytes.next()).collect();
            check(&input);
        }
    }

    // B17
    #[test]
    fn every_field_of_a_header_at_its_extremes_is_no_panic() {
        for file in [0u16, 0x8000] {
            for place in 0..96u16 {
                for value in [[0, 0, 0], [0xFF; 3], [0, 0, 0x80], [1, 0, 0], [0xFF, 0xFF, 0x7F]] {
                    for mode in [0u8, 6, 0x36] {
                        let [low, high] = (place | file).to_le_bytes();
                        let [a, b, c] = value;
                        check(&[mode, low, high, a, b, c]);
                        let [low8, high8] = ((place + 3) | file).to_le_bytes();
                        check(&[mode, low, high, a, b, c, low8, high8, a, b, c]);
                    }
                }
            }
        }
    }
}
