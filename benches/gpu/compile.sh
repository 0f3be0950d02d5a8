#!/bin/sh
# Compiles the kernels to machine code of compute capability 9.0 without a GPU, from both texts that they
# become: PTX (by ptxas, which tells registers and spills) and CUDA C++ (by NVRTC). The compilers come
# from PyPI, into a virtual environment under the target directory.
#
#   sh kernels/llvm-stand-in.sh && sh benches/gpu/compile.sh
set -eu
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}"
tools="$target/cuda-tools"
out="$target/kernel-text"
if [ ! -e "$tools/ready" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "nvidia-cuda-nvrtc==13.0.*" "nvidia-cuda-runtime==13.0.*" \
        "nvidia-cuda-crt==13.0.*" "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-cccl==13.0.*"
    : >"$tools/ready"
fi
cargo run -p stratal-kernels --features cube-cpu --example print_kernels -- "$out" 90
"$tools/bin/python" benches/gpu/compile.py "$tools" "$out"
