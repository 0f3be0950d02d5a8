#!/usr/bin/env python3
"""Makes the vectors that the areas on search measure with, from real text and a real encoder.

    python3 benches/peers/vectors.py [NAME ...]

Files land in the folder named by STRATAL_VECTORS, by default ~/.cache/stratal/vectors; one that
is there is not made again, and a file with its final name is whole. Some 35 CPU-minutes for all, about
three times as many where the processor has no bf16.

queries_10k, queries_1k   real questions of qa (train, dev, test); the thousand are the first ones
real_100k                 100,000 different sentences of the passages, mean-pooled, normalised
cls_100k                  the raw [CLS] vectors of the last layer for the same sentences
real_1m                   each of real_100k and nine of normalize(x + e), e ~ N(0, c Cov), E|e|^2 = 0.36
multi_25k_x4              [25000, 4, 384]: four sentences of real_100k a document, as they come
multi_100k_x4             [100000, 4, 384]: four parts, one after the other, of half a passage each
"""

import os
import re
import sys
from pathlib import Path

import surroundings
from surroundings import say

FOLDER = Path(
    os.environ.get("STRATAL_VECTORS")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stratal" / "vectors"
)
DIMENSION = 384
COUNT = 100_000
SEED = 42
# In the order in which they are made.
NAMES = ["queries_10k", "queries_1k", "real_100k", "cls_100k", "real_1m", "multi_25k_x4", "multi_100k_x4"]


def path(name: str) -> Path:
    return FOLDER / f"{name}.npy"


def ensure(names: list[str]) -> None:
    """Makes those of `names` that are not there yet."""
    wanted = [name for name in NAMES if name in names and not path(name).exists()]
    if not wanted:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if path(name).exists():
            continue
        say(f"making {path(name)}")
        MAKERS[name]()


def save(name: str, array) -> None:
    import numpy

    part = FOLDER / f"{name}.part-{os.getpid()}.npy"
    numpy.save(part, array)
    part.rename(path(name))
    say(f"made {path(name)} {array.shape}")


# --- texts -----------------------------------------------------------------------------


def passages() -> list[str]:
    rows = surroundings.read_jsonl("qa/corpus.jsonl.gz") + surroundings.read_jsonl("wiki/passages-40k.jsonl.gz")
    return [row["text"] for row in rows]


def questions() -> list[str]:
    asked: dict[str, None] = {}
    for split in ("train", "dev", "test"):
        for row in surroundings.read_jsonl(f"qa/{split}.jsonl.gz"):
            asked[row["question"]] = None
    return sample(list(asked), 10_000)


def sentences() -> list[str]:
    found: dict[str, None] = {}
    for text in passages():
        for sentence in re.split(r"(?<=[.!?])\s+(?=[\"“(A-Z])", text):
            sentence = " ".join(sentence.split())
            if 25 <= len(sentence) <= 300:
                found[sentence] = None
    return sample(list(found), COUNT)


def quarters() -> list[str]:
    """Four parts of each document, flat: every passage gives two documents, its halves."""
    documents = []
    for text in passages():
        words = text.split()
        middle = len(words) // 2
        for half in (words[:middle], words[middle:]):
            if len(half) >= 16:
                cuts = [len(half) * part // 4 for part in range(5)]
                documents.append([" ".join(half[a:b]) for a, b in zip(cuts, cuts[1:])])
    return [part for document in sample(documents, COUNT) for part in document]


def sample(things: list, count: int) -> list:
    import random

    if len(things) < count:
        raise surroundings.Missing(f"{len(things)} texts are there where {count} are needed")
    return random.Random(SEED).sample(things, count)


# --- vectors ---------------------------------------------------------------------------


def encode(texts: list[str]):
    """Normalised means over tokens, and raw [CLS] vectors, of the last layer; batches of like length.

    The encoder's products are bf16 where the processor has them, for they are twice as quick there (and many times
    slower elsewhere): vectors as real as those in f32, if not the same to the last digits. Pooling is in f32.
    """
    import numpy
    import torch
    import transformers

    folder = surroundings.model()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    has_bf16 = {"avx512_bf16", "amx_bf16"} & set(surroundings.machine()["instructions"])
    precision = torch.bfloat16 if has_bf16 else torch.float32
    encoder = transformers.AutoModel.from_pretrained(folder).eval().to(precision)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    means = numpy.empty((len(texts), DIMENSION), numpy.float32)
    firsts = numpy.empty((len(texts), DIMENSION), numpy.float32)
    batch = 64
    with torch.inference_mode():
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            inputs = tokenizer(
                [texts[index] for index in chosen], padding=True, truncation=True, max_length=128,
                return_tensors="pt",
            )
            hidden = encoder(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1)
            means[chosen] = torch.nn.functional.normalize(mean).numpy()
            firsts[chosen] = hidden[:, 0].numpy()
            if begin // batch % 50 == 0:
                say(f"  {begin:,} of {len(order):,}")
    return means, firsts


def make_queries() -> None:
    means, _ = encode(questions())
    save("queries_1k", means[:1000])
    save("queries_10k", means)


def make_sentences() -> None:
    means, firsts = encode(sentences())
    save("real_100k", means)
    save("cls_100k", firsts)


def make_million() -> None:
    import numpy

    ensure(["real_100k"])
    real = numpy.load(path("real_100k"))
    random = numpy.random.default_rng(SEED)
    covariance = numpy.cov(real, rowvar=False)
    values, axes = numpy.linalg.eigh(covariance * (0.36 / numpy.trace(covariance)))
    spread = (axes * numpy.sqrt(numpy.maximum(values, 0))).astype(numpy.float32)
    million = numpy.empty((10 * COUNT, DIMENSION), numpy.float32)
    place = random.permutation(10 * COUNT)
    million[place[:COUNT]] = real
    for copy in range(1, 10):
        near = real + random.standard_normal(real.shape, numpy.float32) @ spread.T
        near /= numpy.linalg.norm(near, axis=1, keepdims=True)
        million[place[copy * COUNT : (copy + 1) * COUNT]] = near
    save("real_1m", million)


def make_small_multi() -> None:
    import numpy

    ensure(["real_100k"])
    save("multi_25k_x4", numpy.load(path("real_100k")).reshape(COUNT // 4, 4, DIMENSION))


def make_multi() -> None:
    means, _ = encode(quarters())
    save("multi_100k_x4", means.reshape(COUNT, 4, DIMENSION))


MAKERS = {
    "queries_10k": make_queries,
    "queries_1k": make_queries,
    "real_100k": make_sentences,
    "cls_100k": make_sentences,
    "real_1m": make_million,
    "multi_25k_x4": make_small_multi,
    "multi_100k_x4": make_multi,
}


def main() -> int:
    names = sys.argv[1:] or NAMES
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        say(f"vectors: no such set: {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return 2
    surroundings.enter_virtual_environment()
    try:
        ensure(names)
    except surroundings.Missing as missing:
        say(f"vectors: {missing}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
