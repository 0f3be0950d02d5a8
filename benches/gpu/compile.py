"""Called by compile.sh: ptxas on every .ptx, NVRTC on every .cu of a folder, for compute capability 9.0."""

import ctypes
import glob
import os
import re
import subprocess
import sys


def find(root, name):
    found = glob.glob(f"{root}/lib/python3*/site-packages/nvidia/**/{name}", recursive=True)
    if not found:
        sys.exit(f"{name} is not among the installed packages")
    return sorted(found)[0]


def assemble(tools, text):
    ptxas = find(tools, "ptxas")
    with open(text) as file:
        target = re.search(r"\.target (\w+)", file.read()).group(1)
    made = subprocess.run(
        [ptxas, "-v", f"-arch={target}", text, "-o", text.replace(".ptx", ".cubin")], capture_output=True, text=True
    )
    if made.returncode:
        sys.exit(f"ptxas {text}:\n{made.stdout}{made.stderr}")
    report = made.stdout + made.stderr
    registers = re.search(r"Used (\d+) registers", report)
    spills = re.search(r"(\d+) bytes spill stores", report)
    return f"{target}: {registers.group(1)} registers, {spills.group(1)} bytes spilled"


def compile_text(tools, text):
    # NVRTC opens this by its bare name, which finds one that is loaded already.
    ctypes.CDLL(find(tools, "libnvrtc-builtins.so*"), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(find(tools, "libnvrtc.so*"))
    include = os.path.dirname(find(tools, "cuda_runtime.h"))
    options = ["--gpu-architecture=sm_90", f"-I{include}", f"-I{include}/cccl", "--std=c++17"]
    with open(text, "rb") as file:
        source = file.read()
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernel.cu", 0, None, None)
    argument = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), argument)
    size = ctypes.c_size_t()
    if failed:
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(f"nvrtc {text}:\n{log.value.decode()}")
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    return f"sm_90: {size.value} bytes of machine code"


def main():
    tools, folder = sys.argv[1:]
    for text in sorted(glob.glob(f"{folder}/*.ptx")):
        print(os.path.basename(text), assemble(tools, text))
    for text in sorted(glob.glob(f"{folder}/*.cu")):
        print(os.path.basename(text), compile_text(tools, text))


if __name__ == "__main__":
    main()
