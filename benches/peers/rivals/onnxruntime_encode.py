"""ONNX Runtime's side of `encode`: tokenize, sort by length, run, pool, normalise.

    onnxruntime_encode.py GRAPH MODEL_FOLDER TEXTS.json MAX_TOKENS THREADS BATCH

A process of its own without PyTorch, so that nothing else runs in it.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy
import onnxruntime
from tokenizers import Tokenizer


def main() -> None:
    graph, folder, texts, max_tokens, threads, batch_size = sys.argv[1:]
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.enable_truncation(int(max_tokens))
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A waiting thread that spins would be charged for CPU time it does not use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    passages = json.loads(Path(texts).read_text())

    encode(session, tokenizer, passages[:200], int(batch_size))
    tell({"onnxruntime": onnxruntime.__version__})
    for line in sys.stdin:
        if line.strip() == "run":
            cpu, wall = cpu_seconds(), time.monotonic()
            vectors = encode(session, tokenizer, passages, int(batch_size))
            tell({
                "cpu_s": cpu_seconds() - cpu,
                "wall_s": time.monotonic() - wall,
                "checksum": float(numpy.abs(vectors).sum()),
            })


def encode(session, tokenizer, texts: list[str], batch_size: int) -> numpy.ndarray:
    """Normalised mean-pooled vectors, [n, D]."""
    encodings = tokenizer.encode_batch(texts)
    order = sorted(range(len(texts)), key=lambda place: -len(encodings[place].ids))
    vectors = numpy.empty((len(texts), 384), numpy.float32)
    for begin in range(0, len(order), batch_size):
        places = order[begin:begin + batch_size]
        longest = len(encodings[places[0]].ids)
        ids = numpy.zeros((len(places), longest), numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, place in enumerate(places):
            tokens = encodings[place].ids
            ids[row, :len(tokens)] = tokens
            mask[row, :len(tokens)] = 1
        hidden, = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)})
        pooled = numpy.einsum("bsd,bs->bd", hidden, mask.astype(numpy.float32))
        vectors[places] = pooled / numpy.linalg.norm(pooled, axis=1, keepdims=True)
    return vectors


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tell(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


main()
