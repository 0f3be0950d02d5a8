//! What the measuring programs share: the protocol, clocks, and made-up vectors.

use std::io::{BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};

/// Says that the program is ready, then answers each line `run` with one JSON line.
pub fn serve(ready: Value, mut run: impl FnMut() -> Value) {
    serve_requests(ready, |request| match request {
        "run" => run(),
        other => panic!("unknown request {other:?}"),
    });
}

/// Says that the program is ready, then answers each line with one JSON line.
pub fn serve_requests(ready: Value, mut answer: impl FnMut(&str) -> Value) {
    tell(&ready);
    for line in std::io::stdin().lock().lines() {
        tell(&answer(line.expect("standard input is text").trim()));
    }
}

/// The f32 numbers of a `.npy` file and their shape.
pub fn read_npy(path: &std::path::Path) -> (Vec<f32>, Vec<usize>) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "a version 1 .npy file is read");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + length]).expect("the header is text");
    assert!(
        header.contains("'<f4'") && header.contains("'fortran_order': False"),
        "f32 in C order is read, not {header}"
    );
    let shape = header.split_once("'shape': (").expect("the header has a shape").1;
    let shape: Vec<usize> = shape[..shape.find(')').expect("the shape ends")]
        .split(',')
        .filter_map(|size| size.trim().parse().ok())
        .collect();
    let values: Vec<f32> = bytes[10 + length..]
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    assert_eq!(values.len(), shape.iter().product::<usize>(), "the file is whole");
    (values, shape)
}

/// Prints one JSON line.
pub fn tell(answer: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}").expect("standard output takes the answer");
    out.flush().expect("standard output takes the answer");
}

/// User and system time of this process, all threads.
pub fn cpu_seconds() -> f64 {
    // SAFETY: `rusage` is plain data, for which zeros are a value, and the pointer is valid.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut used);
        used
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(used.ru_utime) + seconds(used.ru_stime)
}

/// Seconds of wall and CPU that `work` took, and what it gave.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Value) {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let made = work();
    let spent = json!({ "wall_s": wall.elapsed().as_secs_f64(), "cpu_s": cpu_seconds() - cpu });
    (made, spent)
}

/// Bytes that this process has handed to write calls so far (`wchar`).
pub fn bytes_written() -> u64 {
    let counts = std::fs::read_to_string("/proc/self/io").expect("/proc/self/io is readable");
    let line = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|count| count.parse().ok())
        .expect("/proc/self/io has a count of bytes written")
}

/// Resident memory of this process in MiB: now, or at most so far.
pub fn resident_mib(peak: bool) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status is readable");
    let key = if peak { "VmHWM:" } else { "VmRSS:" };
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .expect("the kernel tells memory");
    let kib: f64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of kB");
    kib / 1024.0
}

/// Repeatable numbers for vectors (SplitMix64): speed of storage does not hang on their values.
pub struct Numbers(u64);

impl Numbers {
    /// A stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One vector with entries in `[-1, 1)`.
    pub fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension)
            .map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
            .collect()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The numbered command line argument, as whatever type is asked for.
pub fn argument<T: std::str::FromStr>(place: usize, name: &str) -> T {
    let text = std::env::args()
        .nth(place)
        .unwrap_or_else(|| panic!("argument {place} is missing: {name}"));
    text.parse()
        .unwrap_or_else(|_| panic!("argument {place} is no {name}: {text:?}"))
}
