"""Area `encode`: CPU time a passage against ONNX Runtime, agreement with transformers."""

import json
import tempfile
from pathlib import Path

import surroundings
from measuring import Side, alternate, figure, output_of, ratios

MAX_TOKENS = 256
THREADS = 2
RIVAL_BATCH = 4


def measure(quick: bool) -> dict:
    passages = [passage["text"] for passage in surroundings.read_jsonl("qa/corpus.jsonl.gz")]
    fixed = passages[::10][: 400 if quick else 2000]
    folder = surroundings.model()
    program = surroundings.build_program("encode", encoder=True)
    with tempfile.TemporaryDirectory() as work:
        texts = Path(work) / "texts.json"
        texts.write_text(json.dumps(fixed))
        return {
            **against_onnxruntime(program, folder, texts, len(fixed), runs=5 if quick else 7),
            "encode.max_abs_diff": against_transformers(program, folder, fixed[:: len(fixed) // (40 if quick else 200)], Path(work)),
        }


def against_onnxruntime(program: Path, folder: Path, texts: Path, count: int, runs: int) -> dict:
    from rivals import onnx_graph

    graph = onnx_graph.fused_graph(folder)
    ours = Side("stratal", [program, "time", folder, texts, MAX_TOKENS, THREADS])
    rival = Side("onnxruntime", [
        surroundings.VENV / "bin" / "python", surroundings.PEERS / "rivals" / "onnxruntime_encode.py",
        graph, folder, texts, MAX_TOKENS, THREADS, RIVAL_BATCH,
    ])
    mine, others = alternate([ours, rival], runs)
    ours.close()
    rival.close()
    if abs(mine[0]["checksum"] / others[0]["checksum"] - 1) > 1e-4:
        raise RuntimeError(f"the two encoders disagree: {mine[0]['checksum']} and {others[0]['checksum']}")

    def milliseconds(results: list[dict], field: str) -> dict:
        return figure([result[field] * 1000 / count for result in results], "ms per passage")

    return {
        "encode.cpu_vs_onnxruntime": figure(ratios(mine, others, "cpu_s"), "times the CPU-seconds of ONNX Runtime"),
        "encode.wall_vs_onnxruntime": figure(ratios(mine, others, "wall_s"), "times the seconds of ONNX Runtime"),
        "encode.cpu_ms": milliseconds(mine, "cpu_s"),
        "encode.onnxruntime_cpu_ms": milliseconds(others, "cpu_s"),
    }


def against_transformers(program: Path, folder: Path, texts: list[str], work: Path) -> dict:
    """The largest difference in any hidden state: embeddings and every layer, every token."""
    import numpy
    import torch
    import transformers

    names = work / "some.json"
    names.write_text(json.dumps(texts))
    dump = work / "hidden.f32"
    told = output_of([program, "hidden", folder, names, MAX_TOKENS, THREADS, dump])
    tokens, layers, dimension = told["tokens"], told["layers"], told["dimension"]
    # One text after another, each [layer, token, dimension].
    ours = numpy.fromfile(dump, numpy.float32)

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    worst, place = [], 0
    with torch.no_grad():
        for text, count in zip(texts, tokens, strict=True):
            inputs = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            states = torch.stack(encoder(**inputs, output_hidden_states=True).hidden_states).squeeze(1).numpy()
            if states.shape != (layers, count, dimension):
                raise RuntimeError(f"shapes differ: {states.shape} and {(layers, count, dimension)}")
            mine = ours[place : place + states.size].reshape(states.shape)
            place += states.size
            worst.append(float(numpy.abs(mine - states).max()))
    if place != ours.size:
        raise RuntimeError(f"{ours.size} values were written where {place} belong")
    worst.sort()
    return {**figure([worst[-1]], "largest absolute difference"), "passages": len(texts)}
