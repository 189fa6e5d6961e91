"""Decoders of any shape with random weights, made without a model class."""

import torch

from numprune_export.export.decoder import Decoder, DecoderLayer, Projection

SMOLLM2 = {"hidden": 576, "vocabulary": 49152, "head_dim": 64, "max_positions": 8192}
SMOLLM2_DENSE = [(9, 3, 1536)] * 6
SMOLLM2_PRUNED = [(6, 2, 1280), (3, 1, 1024), (6, 2, 768)] * 2
"""Query heads, KV heads and channels of each layer."""


def shaped(
    widths,
    *,
    hidden=64,
    vocabulary=97,
    head_dim=16,
    max_positions=128,
    tied=True,
    dtype=torch.float16,
):
    """A Llama-like Decoder; `widths`: query heads, KV heads and channels of each layer."""
    random = torch.Generator().manual_seed(0)

    def weight(*shape):
        return torch.empty(shape, dtype=dtype).uniform_(-0.05, 0.05, generator=random)

    def layer(queries, kv, channels):
        return DecoderLayer(
            input_norm=weight(hidden) + 1,
            query=Projection(weight(queries * head_dim, hidden)),
            key=Projection(weight(kv * head_dim, hidden)),
            value=Projection(weight(kv * head_dim, hidden)),
            output=Projection(weight(hidden, queries * head_dim)),
            query_norm=None,
            key_norm=None,
            post_attention_norm=weight(hidden) + 1,
            gate=Projection(weight(channels, hidden)),
            up=Projection(weight(channels, hidden)),
            down=Projection(weight(hidden, channels)),
            groups=(queries // kv,) * kv,
            sliding_window=None,
        )

    embedding = weight(vocabulary, hidden)
    return Decoder(
        name="shaped",
        embedding=embedding,
        layers=tuple(layer(*width) for width in widths),
        final_norm=weight(hidden) + 1,
        head=Projection(embedding if tied else weight(vocabulary, hidden)),
        head_dim=head_dim,
        norm_eps=1e-5,
        activation="silu",
        inverse_frequencies=10000 ** -(torch.arange(0, head_dim, 2) / head_dim),
        rotary_scale=1.0,
        max_positions=max_positions,
    )


def block_bytes(decoder, item_bytes=2):
    """Bytes of the matrices in the decoder's layers."""
    return item_bytes * sum(
        projection.weight.numel()
        for layer in decoder.layers
        for projection in (
            layer.query,
            layer.key,
            layer.value,
            layer.output,
            layer.gate,
            layer.up,
            layer.down,
        )
    )
