//! Where the LLVM that CubeCL links is Debian's (llvm-stand-in.sh), one of its libraries goes by an odd
//! name that only the folder of links knows. Does nothing without the features that link it.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=XDG_DATA_HOME");
    let links_llvm =
        env::var_os("CARGO_FEATURE_CUDA").is_some() || env::var_os("CARGO_FEATURE_CUBE_CPU").is_some();
    if !links_llvm {
        return;
    }
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let Some(data) = data else { return };
    let folder = data.join("tracel/tracel-llvm-23.1.0-4/lib");
    if folder.join("liblibz3.so").exists() {
        println!("cargo:rustc-link-search=native={}", folder.display());
    }
}
