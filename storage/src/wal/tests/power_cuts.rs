//! Power cuts, failed writes and failed syncs.

use super::*;
use crate::vfs::{FailingVfs, Fault, Operation};

#[test]
fn a_frame_that_was_read_and_not_durable_is_carried_over() {
    for seed in 0..400 {
        let vfs = disk();
        let failing = FailingVfs::new(Arc::new(vfs.clone()));
        let writer = WalWriter::create(Arc::new(failing.clone()), folder(), 1, 0, None);
        let mut writer = writer.unwrap();
        write(&mut writer, 2);
        failing.fail(Fault::new(libc::EIO).on(&[Operation::Sync]));
        assert!(writer.write_frame(3, &records(3, 1), 1).is_err());
        let poisoned = writer.write_frame(3, &records(3, 1), 1);
        assert!(matches!(poisoned, Err(Error::Poisoned { .. })));
        // The process goes; the next one reads the frame from the page cache and builds on it.
        let mut second = next(&vfs, 0);
        assert_eq!(second.last_seq(), 3);
        write(&mut second, 1);
        assert_eq!(check(&vfs.crash(seed), 0, false).unwrap().last_seq, 4);
    }
}

#[test]
fn files_before_a_checkpoint_may_go_in_any_way() {
    for seed in 0..200 {
        let vfs = disk();
        for (number, last) in [(1, 0), (2, 2), (3, 4), (4, 6)] {
            write(&mut create(&vfs, number, last), 2);
        }
        let failing = FailingVfs::new(Arc::new(vfs.clone()));
        failing.fail(Fault::new(libc::EIO).on_changes().from(seed % 4));
        let _ = remove_before(&failing, folder(), 4);
        let after = vfs.crash(seed);
        assert_eq!(check(&after, 6, false).unwrap().last_seq, 8);
        let removed = remove_before(&after, folder(), 4).unwrap();
        assert!(removed <= 3);
        assert_eq!(list(&after, folder()).unwrap(), [4]);
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn acknowledged_commits_survive_any_history_of_power_cuts_and_faults() {
    for seed in 0..3_000 {
        let mut rng = Rng(seed);
        let mut vfs = disk();
        let mut acknowledged = 0;
        let mut checkpointed = 0;
        for _ in 0..4 {
            let replayed = check(&vfs, checkpointed, false).unwrap_or_else(|error| panic!("{seed}: {error}"));
            assert!(replayed.last_seq >= acknowledged, "{seed}: lost {acknowledged}");
            assert!(replayed.last_seq <= acknowledged + 3, "{seed}: invented");
            let failing = FailingVfs::new(Arc::new(vfs.clone()));
            failing.fail(
                Fault::new(if rng.below(2) == 0 {
                    libc::ENOSPC
                } else {
                    libc::EIO
                })
                .on_changes()
                .from(rng.below(60))
                .short_write(rng.below(300) as usize),
            );
            let inner: Arc<dyn Vfs> = Arc::new(failing.clone());
            let started = WalWriter::continue_after(Arc::clone(&inner), folder(), &replayed);
            if let Ok(mut writer) = started {
                acknowledged = acknowledged.max(replayed.last_seq);
                for _ in 0..rng.below(12) {
                    let first = writer.last_seq() + 1;
                    let count = 1 + rng.below(3) as u32;
                    if writer.write_frame(first, &records(first, count), count).is_err() {
                        break;
                    }
                    acknowledged = writer.last_seq();
                    if rng.below(6) == 0 {
                        let number = writer.file_number() + 1;
                        let previous = Some(writer.file_number());
                        let rotated =
                            WalWriter::create(Arc::clone(&inner), folder(), number, acknowledged, previous);
                        let Ok(new) = rotated else { break };
                        writer = new;
                        checkpointed = acknowledged;
                        let _ = remove_before(&*inner, folder(), number);
                    }
                }
            }
            if rng.below(4) > 0 {
                vfs = vfs.crash(rng.below(u64::from(u32::MAX)));
            }
        }
    }
}
