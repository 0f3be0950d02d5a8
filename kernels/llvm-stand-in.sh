#!/bin/sh
# Sees to it that the features `cuda` and `cube-cpu` can be built: CubeCL generates code through an
# LLVM that its build script downloads from a code host. Where that host can be reached (or the bundle
# is already here) this does nothing. Where it cannot, Debian's LLVM 22 is put in the bundle's place:
# good enough to build and to run the tests, not what the crates were made for (LLVM 23), so users
# should never need it.
#
#   sh kernels/llvm-stand-in.sh            # then cargo test -p stratal-kernels --features cube-cpu
#
# Debian's libraries name libz3 oddly, so the program that is linked must also search the folder of
# links: kernels/build.rs adds it.
set -eu

version=23.1.0-4
folder="${XDG_DATA_HOME:-$HOME/.local/share}/tracel/tracel-llvm-$version"
installed="$folder/.tracel-llvm-installed"

if [ -e "$installed" ]; then
    echo "LLVM for CubeCL: $folder"
    exit 0
fi

# The file that CubeCL's build script asks for first. Only its existence is asked.
bundle="https://github.com/tracel-ai/tracel-llvm/releases/download/v$version/linux-x64.checksums.json"
if command -v curl >/dev/null 2>&1 && curl --silent --fail --location --head --max-time 20 "$bundle" >/dev/null; then
    echo "LLVM for CubeCL: its build script will download the bundle"
    exit 0
fi

echo "LLVM for CubeCL: the bundle cannot be reached; putting Debian's LLVM 22 in its place"
prefix=/usr/lib/llvm-22
if [ ! -x "$prefix/bin/llvm-config" ] || [ ! -e "$prefix/lib/libPolly.a" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "neither the bundle nor apt-get is here: build on a machine that reaches $bundle" >&2
        exit 1
    fi
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        llvm-22-dev libpolly-22-dev libz3-dev zlib1g-dev libzstd-dev libxml2-dev >/dev/null
fi

# Built beside its place and moved there, so that a run that was stopped leaves nothing half done.
building="$folder.building"
rm -rf "$building"
mkdir -p "$building/lib"
ln -s "$prefix/bin" "$building/bin"
ln -s "$prefix/include" "$building/include"
ln -s "$prefix"/lib/* "$building/lib/"
z3=$(ls /usr/lib/*/libz3.so 2>/dev/null | head -n 1)
if [ -z "$z3" ]; then
    echo "libz3.so was not found: is libz3-dev installed?" >&2
    exit 1
fi
ln -sf "$z3" "$building/lib/liblibz3.so"
: >"$building/.tracel-llvm-installed"
rm -rf "$folder"
mv "$building" "$folder"
echo "LLVM for CubeCL: $folder"
