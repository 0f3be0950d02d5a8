"""PyTorch's side of `train`: optimizer steps of a dual encoder over one batch.

    pytorch_train.py MODEL_FOLDER PAIRS.json TOKENS THREADS STEPS f32|bf16

PAIRS.json is a list of [question, passage]. A step tokenizes both sides, encodes them with the
dropout that the model's configuration has on hidden states, takes means over tokens scaled to
length 1, the softmax cross-entropy over the batch at a temperature of 0.05, the gradient, clips it
and takes a step of AdamW (fused, without decay). `bf16` is torch's autocast, f32 its plain way.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
import transformers

TAU = 0.05


def main() -> None:
    folder, pairs, tokens, threads, steps, precision = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(
        folder, attn_implementation="sdpa", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.1,
    )
    pairs = json.loads(Path(pairs).read_text())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-5, weight_decay=0.0, fused=True)
    step = Step(model, tokenizer, optimizer, pairs, int(tokens), precision == "bf16")
    model.eval()
    with torch.no_grad():
        loss = float(step.loss())
    model.train()
    step.take()
    tell({"torch": torch.__version__, "loss": loss})
    for line in sys.stdin:
        if line.strip() == "run":
            cpu, wall = cpu_seconds(), time.monotonic()
            for _ in range(int(steps)):
                step.take()
            tell({"cpu_s": (cpu_seconds() - cpu) / int(steps), "wall_s": (time.monotonic() - wall) / int(steps)})


class Step:
    def __init__(self, model, tokenizer, optimizer, pairs, tokens: int, bf16: bool):
        self.model, self.tokenizer, self.optimizer = model, tokenizer, optimizer
        self.questions = [question for question, _ in pairs]
        self.passages = [passage for _, passage in pairs]
        self.tokens, self.bf16 = tokens, bf16

    def encode(self, texts: list[str]) -> torch.Tensor:
        inputs = self.tokenizer(texts, truncation=True, max_length=self.tokens, padding=True, return_tensors="pt")
        hidden = self.model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    def loss(self) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            questions, passages = self.encode(self.questions), self.encode(self.passages)
        scores = questions @ passages.T / TAU
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))

    def take(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimizer.step()


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tell(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


main()
