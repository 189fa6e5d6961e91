"""A decoder of a known shape with random weights, for speed alone: dense, or with a part kept."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

POOL = 1 << 24
"""Random numbers drawn; every parameter is cut from them at a place of its own, which is as fast as
copying and repeats itself no sooner than after 32 MiB in half precision."""


@dataclass(frozen=True)
class Shape:
    """Of a Llama-like model: one KV head per query head."""

    hidden: int
    layers: int
    heads: int
    channels: int
    vocabulary: int

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def parameters(self) -> int:
        """Of the dense model; norms, which are next to nothing, left out."""
        layer = 4 * self.hidden**2 + 3 * self.hidden * self.channels
        return self.layers * layer + 2 * self.vocabulary * self.hidden


SHAPES = {
    "7b": Shape(4096, 32, 32, 11008, 32000),
    "7b-4-blocks": Shape(4096, 4, 32, 11008, 32000),
    "tiny": Shape(256, 2, 8, 704, 512),
    "15m": Shape(288, 6, 6, 768, 4096),
    "135m-8-blocks": Shape(576, 8, 9, 1536, 49152),
    "0.5b-4-blocks": Shape(896, 4, 14, 4864, 16384),
}
"""`7b`: LLaMA-7B; `135m`: SmolLM2; `0.5b`: Qwen2.5. Some with fewer blocks, to be affordable."""


def random_decoder(
    shape: Shape, keep: float, *, dtype: torch.dtype, device: str, positions: int
) -> PreTrainedModel:
    """A model with this fraction of the heads and channels of every layer, rounded to 1 and to 8.

    Weights are made parameter by parameter on `device`; nothing larger is ever held beside them. On
    `meta` there are none.
    """
    # The Mistral class is Llama's network, and takes head counts that do not divide the width.
    config = MistralConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=max(8, round(keep * shape.channels / 8) * 8),
        num_hidden_layers=shape.layers,
        num_attention_heads=max(1, round(keep * shape.heads)),
        num_key_value_heads=max(1, round(keep * shape.heads)),
        head_dim=shape.head_dim,
        max_position_embeddings=positions,
        sliding_window=None,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = MistralForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa")
    model = model.to_empty(device=device)
    # to_empty leaves its frequencies, which are no parameters, as they were found in memory.
    with torch.device(device):
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    if device != "meta":
        _randomise(model, device, dtype)
    return model.eval().requires_grad_(False)


def save_random(shape: Shape, folder: Path, *, dtype: torch.dtype, device: str = "cpu") -> None:
    """A model of this shape as a folder in shards, with the shipped tiny model's tokenizer."""
    from numprune_export.recipe import builtin_dir

    model = random_decoder(shape, 1.0, dtype=dtype, device=device, positions=2048)
    model.save_pretrained(folder, max_shard_size="1GB")
    for path in (builtin_dir() / "tiny-llama").glob("tokenizer*"):
        shutil.copy(path, folder)


def _randomise(model: PreTrainedModel, device: str, dtype: torch.dtype) -> None:
    generator = torch.Generator(device).manual_seed(0)
    pool = torch.randn(POOL, generator=generator, device=device).mul_(0.02).to(dtype)
    with torch.no_grad():
        for index, (name, parameter) in enumerate(model.named_parameters()):
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                _fill(parameter.view(-1), pool, offset=index * 7919)


def _fill(flat: torch.Tensor, pool: torch.Tensor, offset: int) -> None:
    start, written = offset % len(pool), 0
    while written < len(flat):
        piece = pool[start : start + len(flat) - written]
        flat[written : written + len(piece)] = piece
        written, start = written + len(piece), 0
