"""The same search in PyTorch on the same card: chunked matmul, amax over layers, topk, merge.

    python benches/gpu/torch_rival.py [--documents 1000000 --layers 2 --dimension 768 --k 100]

Prints milliseconds for each element and number of queries, and the card's bf16 matrix rate as cuBLAS
reaches it, which is what "half of the card's matrix rate" is measured against. Needs a CUDA build of
PyTorch. Approximate in one respect where ours is not: scores are of half precision.
"""

import argparse
import statistics
import time

import torch


def search(queries, planes, k, chunk):
    best = None
    for first in range(0, planes.shape[1], chunk):
        part = planes[:, first : first + chunk]
        scores = torch.matmul(queries, part.transpose(1, 2)).amax(0)
        values, rows = scores.topk(min(k, part.shape[1]), dim=1)
        rows = rows + first
        if best is not None:
            values, rows = torch.cat([best[0], values], 1), torch.cat([best[1], rows], 1)
            values, at = values.topk(k, dim=1)
            rows = rows.gather(1, at)
        best = values, rows
    return best


def median(run, rounds):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main():
    arguments = argparse.ArgumentParser()
    for name, value in [("documents", 1_000_000), ("layers", 2), ("dimension", 768), ("k", 100), ("rounds", 11)]:
        arguments.add_argument(f"--{name}", type=int, default=value)
    asked = arguments.parse_args()
    print(torch.cuda.get_device_name(), "torch", torch.__version__)

    side = 8192
    a = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
    rate = 2 * side**3 / median(lambda: a @ b, asked.rounds)
    print(f"matrix rate, cuBLAS bf16: {rate / 1e12:.0f} TFLOP/s")

    for element in (torch.float16, torch.bfloat16):
        planes = torch.randn(asked.layers, asked.documents, asked.dimension, device="cuda", dtype=element)
        planes /= planes.norm(dim=2, keepdim=True)
        for count in (1, 32, 1024):
            queries = torch.randn(count, asked.dimension, device="cuda", dtype=element)
            queries /= queries.norm(dim=1, keepdim=True)
            # The chunk that is quickest for this number of queries: the rival at its best.
            times = {
                chunk: median(lambda: search(queries, planes, asked.k, chunk), asked.rounds)
                for chunk in (32_768, 131_072, 524_288, asked.documents)
                if chunk * count * asked.layers * 2 < 16 << 30
            }
            chunk, best = min(times.items(), key=lambda item: item[1])
            print(f"{element}, {count:5} queries: {best * 1e3:9.3f} ms (chunks of {chunk})")
        del planes


if __name__ == "__main__":
    main()
