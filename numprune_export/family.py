"""The words a family is declared in: where a Transformer keeps its blocks, sites and tensors.

A declaration holds paths, not forward code: Hugging Face's own forward runs on uneven layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numprune_export.artifact import Decoder, DecoderLayer, Projection
from numprune_export.errors import UnsupportedModelError
from numprune_export.plan import Producer, Site

if TYPE_CHECKING:
    from torch import nn

Config = Any
"""A transformers PretrainedConfig; its attributes differ by family."""


@dataclass(frozen=True)
class RotaryDecoder:
    """Llama and its relatives: RMSNorm, rotary grouped-query attention, gated MLP."""

    model_type: str
    """`model_type` of config.json."""
    architecture: str
    """The causal language model class in transformers."""
    qk_norm: bool = False
    output_bias_key: str | None = None
    """Config switch that gives o_proj (with q, k, v) a bias; None: the class has no such bias."""
    heads_divide_hidden: bool = False
    """The config class refuses head counts that do not divide hidden_size."""

    embedding: str = "model.embed_tokens"
    blocks: str = "model.layers"
    final_norm: str = "model.norm"
    rotary: str = "model.rotary_emb"
    head: str = "lm_head"

    def sites(self, model: nn.Module) -> tuple[Site, ...]:
        """Every prunable site, block by block, attention before MLP, from the actual shapes."""
        found = []
        for index, block in enumerate(self.block_list(model)):
            attention, mlp = _part(block, "self_attn"), _part(block, "mlp")
            head_dim = int(attention.head_dim)
            group = int(attention.num_key_value_groups)
            producers = (
                Producer("self_attn.q_proj", group * head_dim),
                Producer("self_attn.k_proj", head_dim),
                Producer("self_attn.v_proj", head_dim),
            )
            units = int(attention.k_proj.out_features) // head_dim
            found.append(
                _site(
                    block,
                    index,
                    "attention",
                    units,
                    producers,
                    "self_attn.o_proj",
                    group * head_dim,
                )
            )
            channels = (Producer("mlp.gate_proj", 1), Producer("mlp.up_proj", 1))
            units = int(mlp.up_proj.out_features)
            found.append(_site(block, index, "mlp", units, channels, "mlp.down_proj", 1))
        return tuple(found)

    def attributes(self, block: nn.Module) -> dict[str, int]:
        """Numbers that Hugging Face's forward reads from a block and that follow its widths."""
        attention, mlp = _part(block, "self_attn"), _part(block, "mlp")
        groups = attention.q_proj.out_features // attention.k_proj.out_features
        return {
            "self_attn.num_key_value_groups": int(groups),
            "mlp.intermediate_size": int(mlp.up_proj.out_features),
        }

    def block_list(self, model: nn.Module) -> list[nn.Module]:
        return list(model.get_submodule(self.blocks).children())

    def decoder(self, model: nn.Module) -> Decoder:
        """The model as its tensors, shared and not copied.

        Raises:
            UnsupportedModelError: the rotation changes with the sequence length.
        """
        config: Config = model.config
        rotary = _part(model, self.rotary)
        if rotary.rope_type not in ("default", "linear", "llama3", "yarn"):
            raise UnsupportedModelError(
                f"rotary embedding `{rotary.rope_type}` changes with the sequence length,"
                " which a fixed graph cannot express",
                hint="use a checkpoint with default, linear, llama3 or yarn rotary embeddings",
            )
        embedding = _part(model, self.embedding).weight
        head = _projection(_part(model, self.head))
        if head.weight.data_ptr() == embedding.data_ptr():
            head = Projection(embedding, head.bias)
        return Decoder(
            name=str(config.model_type),
            embedding=embedding,
            layers=tuple(self._layers(model)),
            final_norm=_part(model, self.final_norm).weight,
            head=head,
            head_dim=int(_part(self.block_list(model)[0], "self_attn").head_dim),
            norm_eps=float(config.rms_norm_eps),
            activation=str(config.hidden_act),
            inverse_frequencies=rotary.inv_freq.float(),
            rotary_scale=float(rotary.attention_scaling),
            max_positions=int(config.max_position_embeddings),
        )

    def _layers(self, model: nn.Module) -> Iterator[DecoderLayer]:
        for index, block in enumerate(self.block_list(model)):
            attention, mlp = _part(block, "self_attn"), _part(block, "mlp")
            yield DecoderLayer(
                input_norm=_part(block, "input_layernorm").weight,
                query=_projection(attention.q_proj),
                key=_projection(attention.k_proj),
                value=_projection(attention.v_proj),
                output=_projection(attention.o_proj),
                query_norm=attention.q_norm.weight if self.qk_norm else None,
                key_norm=attention.k_norm.weight if self.qk_norm else None,
                post_attention_norm=_part(block, "post_attention_layernorm").weight,
                gate=_projection(mlp.gate_proj),
                up=_projection(mlp.up_proj),
                down=_projection(mlp.down_proj),
                query_heads=int(attention.q_proj.out_features) // int(attention.head_dim),
                kv_heads=int(attention.k_proj.out_features) // int(attention.head_dim),
                sliding_window=_sliding_window(model.config, index),
            )


def _site(
    block: nn.Module,
    index: int,
    kind: Any,
    units: int,
    producers: tuple[Producer, ...],
    consumer: str,
    consumer_width: int,
) -> Site:
    cost = consumer_width * int(_part(block, consumer).out_features)
    for producer in producers:
        linear = _part(block, producer.path)
        cost += producer.width * (int(linear.in_features) + (linear.bias is not None))
    return Site(index, kind, units, producers, consumer, consumer_width, cost)


def _part(module: nn.Module, path: str) -> Any:
    """A submodule, untyped: which attributes it has is what a family declares."""
    return module.get_submodule(path)


def _projection(linear: Any) -> Projection:
    return Projection(linear.weight, linear.bias)


def _sliding_window(config: Config, index: int) -> int | None:
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[index] != "sliding_attention":
        return None
    # A window as long as all positions hides nothing, and costs a runtime that knows windows.
    return None if window is None or window >= config.max_position_embeddings else window
