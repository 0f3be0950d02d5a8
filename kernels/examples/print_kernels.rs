//! Writes the kernels' CUDA C++ and PTX to a folder, without a device: to read, or for
//! `benches/gpu/compile.sh`, which compiles both for a real architecture.
//!
//!     cargo run -p stratal-kernels --features cube-cpu --example print_kernels -- FOLDER [ARCHITECTURE]

use std::path::Path;
use std::process::ExitCode;

use stratal_kernels::cube::text::listings;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        eprintln!("name a folder to write to");
        return ExitCode::from(2);
    };
    let architecture = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(90);
    match write(Path::new(&folder), architecture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path, architecture: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    for listing in listings(architecture)? {
        std::fs::write(folder.join(format!("{}.ptx", listing.name)), &listing.ptx).map_err(failed)?;
        std::fs::write(folder.join(format!("{}.cu", listing.name)), &listing.cuda).map_err(failed)?;
        println!("{}: {} bytes of shared memory", listing.name, listing.shared);
    }
    Ok(())
}
