"""Pruned decoders whose layers differ in width.

A checkpoint folder carries this file, so that it loads with torch and transformers alone:

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

The classes change sizes and nothing else: the forward pass is the one of transformers. The sizes
come from `config.numprune["layers"]`, one entry per block:

    linears     module path in the block -> [out_features, in_features, has_bias]
    attributes  attribute path in the block -> the number that the forward pass reads there
"""

from torch import nn
from transformers import (
    LlamaForCausalLM,
    MistralForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)


class PerLayerWidths:
    """Mixin before a causal language model class: rebuilds each block at its own widths."""

    # Where `save_pretrained` registers the class, and why it copies this file along.
    _auto_class = "AutoModelForCausalLM"

    def __init__(self, config, *args, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        layers = config.numprune["layers"]
        blocks = self.model.layers  # type: ignore[attr-defined]
        if len(layers) != len(blocks):
            raise ValueError(f"`numprune` lists {len(layers)} layers, the model has {len(blocks)}")
        for block, layer in zip(blocks, layers, strict=True):
            for path, (rows, columns, bias) in layer["linears"].items():
                _replace_linear(block, path, rows, columns, bias)
            for path, value in layer["attributes"].items():
                parent, _, name = path.rpartition(".")
                setattr(block.get_submodule(parent), name, value)


def _replace_linear(block: nn.Module, path: str, rows: int, columns: int, bias: bool) -> None:
    old = block.get_submodule(path)
    if not isinstance(old, nn.Linear):
        raise ValueError(f"`numprune` resizes `{path}`, which is not a linear layer")
    # Made on the device of the layer it replaces: on `meta`, where from_pretrained builds a model,
    # neither of the two takes memory.
    new = nn.Linear(columns, rows, bias, device=old.weight.device, dtype=old.weight.dtype)
    parent, _, name = path.rpartition(".")
    setattr(block.get_submodule(parent), name, new)


class NumpruneLlamaForCausalLM(PerLayerWidths, LlamaForCausalLM):  # type: ignore[misc]
    pass


class NumpruneMistralForCausalLM(PerLayerWidths, MistralForCausalLM):  # type: ignore[misc]
    pass


class NumpruneQwen2ForCausalLM(PerLayerWidths, Qwen2ForCausalLM):  # type: ignore[misc]
    pass


class NumpruneQwen3ForCausalLM(PerLayerWidths, Qwen3ForCausalLM):  # type: ignore[misc]
    pass


CLASSES = {
    "llama": NumpruneLlamaForCausalLM,
    "mistral": NumpruneMistralForCausalLM,
    "qwen2": NumpruneQwen2ForCausalLM,
    "qwen3": NumpruneQwen3ForCausalLM,
}
