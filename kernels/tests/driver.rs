//! B81: whatever stands where a CUDA driver should, asking for a device is an error and never a panic. Each
//! case runs in a process of its own, with a library that pretends to be the driver.

#![cfg(feature = "cuda")]

use std::path::Path;
use std::process::Command;

use stratal_kernels::Error;
use stratal_kernels::cube::{Searcher, cuda_device};

const CHILD: &str = "STRATAL_DRIVER_TEST";

/// Does nothing unless [`answer_of`] starts it.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    for error in [cuda_device(0).map(|_| ()), Searcher::cuda(0, None).map(|_| ())] {
        match error {
            Err(Error::NoDevice { index: 0, reason }) => println!("reason: {reason}"),
            other => println!("other: {other:?}"),
        }
    }
}

/// What a process says whose driver is made from `source`.
fn answer_of(folder: &Path, source: &str) -> Option<String> {
    let (text, library) = (folder.join("driver.c"), folder.join("libcuda.so.1"));
    std::fs::write(&text, source).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([&library, &text])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no C compiler");
        return None;
    }
    std::fs::copy(&library, folder.join("libcuda.so")).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .env("LD_LIBRARY_PATH", folder)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success(),
        "{output}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(!output.contains("other:"), "{output}");
    Some(output)
}

#[test]
fn no_driver_is_a_reason_and_never_a_panic() {
    let folder = std::env::temp_dir().join(format!("stratal-driver-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let driver = |start: i32, version: i32, devices: i32, rest: i32| {
        format!(
            "int cuInit(unsigned f) {{ return {start}; }}
             int cuGetErrorString(int e, const char **s) {{ *s = \"\"; return 0; }}
             int cuDriverGetVersion(int *v) {{ *v = {version}; return 0; }}
             int cuDeviceGetCount(int *c) {{ *c = {devices}; return 0; }}
             int cuDeviceGet(int *d, int i) {{ *d = i; return 0; }}
             int cuDeviceGetAttribute(int *v, int a, int d) {{ *v = 9; return 0; }}
             int cuDeviceTotalMem_v2(unsigned long *b, int d) {{ *b = 1l << 33; return {rest}; }}
             int cuDevicePrimaryCtxRetain(void **c, int d) {{ return {rest}; }}"
        )
    };
    let cases = [
        ("int nothing(void) { return 0; }".to_owned(), "lacks functions"),
        (driver(100, 13_000, 1, 0), "does not start"),
        (driver(0, 11_040, 1, 0), "version 11.4"),
        (driver(0, 13_000, 0, 0), "reports no device"),
        (driver(0, 13_000, 1, 101), "does not describe it"),
    ];
    for (source, reason) in cases {
        if let Some(answer) = answer_of(&folder, &source) {
            assert_eq!(answer.matches("reason:").count(), 2, "{answer}");
            assert!(answer.contains(reason), "{answer}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
