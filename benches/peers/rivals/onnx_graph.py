"""Exports the encoder with PyTorch and fuses it with ONNX Runtime's own BERT optimizer."""

from pathlib import Path

import torch
import transformers
from onnxruntime.transformers import optimizer

import surroundings


class LastHidden(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=False
        )[0]


def fused_graph(folder: Path) -> Path:
    """The path of the fused graph, made once for a model and a set of package versions."""
    key = surroundings.digest(folder / "model.safetensors", surroundings.PEERS / "requirements.txt")
    path = surroundings.cache(f"fused-{key}.onnx")
    if path.exists():
        return path
    surroundings.say("exporting the encoder to ONNX and fusing its graph")
    # The optimizer recognises plain attention, not PyTorch's fused operator.
    encoder = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager", add_pooling_layer=False)
    ids = torch.randint(1000, 2000, (2, 9))
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    plain = path.with_suffix(".plain.onnx")
    torch.onnx.export(
        LastHidden(encoder.eval()), (ids, torch.ones_like(ids), torch.zeros_like(ids)), str(plain),
        input_names=inputs, output_names=["last_hidden_state"], opset_version=17, dynamo=False,
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in [*inputs, "last_hidden_state"]},
    )
    shape = encoder.config
    fused = optimizer.optimize_model(
        str(plain), model_type="bert", num_heads=shape.num_attention_heads, hidden_size=shape.hidden_size, opt_level=0
    )
    if not fused.is_fully_optimized():
        raise RuntimeError(f"the graph was not fused: {fused.get_fused_operator_statistics()}")
    unfinished = path.with_suffix(".part")
    fused.save_model_to_file(str(unfinished))
    plain.unlink()
    unfinished.rename(path)
    return path
