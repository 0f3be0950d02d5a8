"""Area `retrieval`: answers of a database that the command filled, against sentence-transformers."""

import gzip
import json
from pathlib import Path

import surroundings
from measuring import disk, figure, output_of, peak_memory

MAX_TOKENS = 256
CUTS = [1, 5, 20, 100]


def measure(quick: bool) -> dict:
    corpus = surroundings.read_jsonl("qa/corpus.jsonl.gz")
    questions = surroundings.read_jsonl("qa/test.jsonl.gz")
    if quick:
        questions = questions[::5]
        gold = {question["passage_id"] for question in questions}
        corpus = [passage for place, passage in enumerate(corpus) if passage["id"] in gold or place % 10 == 0]
    model = surroundings.model()
    command = surroundings.build_command()
    program = surroundings.build_program("retrieval", encoder=True)

    theirs = sentence_transformers_ranks(model, corpus, questions)
    with disk() as folder:
        source = folder / "passages.jsonl.gz"
        with gzip.open(source, "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(passage, ensure_ascii=False) + "\n" for passage in corpus)
        ours, peak_mib, seconds = our_ranks(command, program, model, source, questions, folder)

    mine = {cut: found(ours, cut) for cut in CUTS}
    other = {cut: found(theirs, cut) for cut in CUTS}
    gaps = {cut: abs(mine[cut] - other[cut]) for cut in CUTS}
    size = {"passages": len(corpus), "questions": len(questions)}
    figures = {
        "retrieval.top5_gap_points": {
            **figure(list(gaps.values()), "points, the largest of Top-1, 5, 20, 100", value=max(gaps.values())), **size,
        },
        "retrieval.ingest_peak_mib": {**figure([peak_mib], "MiB"), **size},
        "retrieval.ingest_passages_per_s": {**figure([len(corpus) / seconds], "passages per second"), **size},
    }
    for cut in CUTS:
        figures[f"retrieval.top{cut}"] = figure([mine[cut]], "% of questions")
        figures[f"retrieval.sentence_transformers_top{cut}"] = figure([other[cut]], "% of questions")
    return figures


def found(ranks: list[int], cut: int) -> float:
    """Share of the questions whose gold passage is among the first `cut`, in percent."""
    return 100 * sum(1 for rank in ranks if rank < cut) / len(ranks)


def sentence_transformers_ranks(model: Path, corpus: list[dict], questions: list[dict]) -> list[int]:
    """For each question the place of its gold passage; the embeddings are kept for the next time."""
    import numpy

    passages = sentence_transformers(model, [passage["text"] for passage in corpus])
    asked = sentence_transformers(model, [question["question"] for question in questions])
    rows = {passage["id"]: row for row, passage in enumerate(corpus)}
    ranks = []
    for begin in range(0, len(asked), 256):
        scores = asked[begin : begin + 256].astype(numpy.float64) @ passages.T.astype(numpy.float64)
        gold = [rows[question["passage_id"]] for question in questions[begin : begin + 256]]
        own = scores[numpy.arange(len(gold)), gold][:, None]
        ranks += (scores > own).sum(axis=1).tolist()
    return ranks


def sentence_transformers(model: Path, texts: list[str]):
    import numpy

    key = surroundings.digest(model / "model.safetensors", surroundings.PEERS / "requirements.txt", MAX_TOKENS, json.dumps(texts))
    path = surroundings.cache(f"sentence-transformers-{key}.npy")
    if not path.exists():
        from sentence_transformers import SentenceTransformer

        surroundings.say(f"  sentence-transformers encodes {len(texts):,} texts (kept for the next time)")
        encoder = SentenceTransformer(str(model), device="cpu")
        encoder.max_seq_length = MAX_TOKENS
        vectors = encoder.encode(texts, batch_size=16, normalize_embeddings=True, show_progress_bar=False)
        unfinished = path.with_suffix(".part.npy")
        numpy.save(unfinished, vectors.astype(numpy.float32))
        unfinished.rename(path)
    return numpy.load(path)


def our_ranks(command: Path, program: Path, model: Path, source: Path, questions: list[dict], folder: Path):
    database = folder / "passages.stratal"
    environment = {"STRATAL_MODEL": str(model)}
    peak_mib, seconds = peak_memory([command, "add", database, source, "--collection", "passages"], environment)
    asked, answers = folder / "questions.json", folder / "answers.json"
    asked.write_text(json.dumps([question["question"] for question in questions]))
    output_of([program, database, "passages", asked, max(CUTS), answers], environment)
    ranks = []
    for question, ids in zip(questions, json.loads(answers.read_text()), strict=True):
        gold = question["passage_id"]
        ranks.append(ids.index(gold) if gold in ids else len(ids))
    return ranks, peak_mib, seconds
