"""Declaration of rotary decoders (Llama and its relatives): blocks, sites and tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.export.decoder import Decoder, DecoderLayer, Projection
from numprune_export.models.family import (
    Config,
    LayerPaths,
    NetworkKind,
    declare_site,
    part,
    projection,
)
from numprune_export.models.site import Kind, Producer, Site

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class RotaryDecoder:
    """Llama and its relatives: RMSNorm, rotary grouped-query attention, gated MLP."""

    model_type: str
    """`model_type` of config.json."""
    architecture: str
    """Name of the causal language model class in transformers."""
    qk_norm: bool = False
    output_bias_key: str | None = None
    """Config key that adds a bias to o_proj (with q, k, v); None: the class has no such bias."""
    heads_divide_hidden: bool = False
    """The config class rejects head counts that do not divide hidden_size."""
    single_query_heads: bool = False
    """Whether units are single query heads, and a KV head is removed with its last query head;
    otherwise a unit is a KV head with all of its query heads."""

    trunk: str = "model"
    embedding: str = "model.embed_tokens"
    blocks: str = "model.layers"
    final_norm: str = "model.norm"
    rotary: str = "model.rotary_emb"
    head: str = "lm_head"

    @property
    def kind(self) -> NetworkKind:
        """See Family.kind."""
        return "decoder"

    @property
    def causal(self) -> bool:
        """See Family.causal."""
        return True

    @property
    def architectures(self) -> tuple[str, ...]:
        """See Family.architectures."""
        return (self.architecture,)

    def sites(self, model: nn.Module) -> tuple[Site, ...]:
        """Every prunable site, block by block, attention before MLP, from the actual shapes."""
        sites: list[Site] = []
        for index, block in enumerate(self.block_list(model)):
            mlp = part(block, "mlp")
            producers = (Producer("mlp.gate_proj", 1), Producer("mlp.up_proj", 1))
            layers = LayerPaths(producers, "mlp.down_proj", 1)
            units = int(mlp.up_proj.out_features)
            mlp_site = declare_site(block, index, "mlp", units, layers)
            sites += [self._attention_site(block, index), mlp_site]
        return tuple(sites)

    def with_single_query_heads(self) -> RotaryDecoder:
        """See Family.with_single_query_heads."""
        return replace(self, single_query_heads=True)

    def _attention_site(self, block: nn.Module, index: int) -> Site:
        attention = part(block, "self_attn")
        head_dim, groups = int(attention.head_dim), _query_groups(attention)
        single = self.single_query_heads or len(set(groups)) > 1
        columns = head_dim if single else groups[0] * head_dim
        producers = (
            Producer("self_attn.q_proj", columns),
            Producer("self_attn.k_proj", head_dim, shared=single),
            Producer("self_attn.v_proj", head_dim, shared=single),
        )
        units = int(attention.q_proj.out_features) // columns
        layers = LayerPaths(producers, "self_attn.o_proj", columns)
        return declare_site(
            block, index, "attention", units, layers, groups=groups if single else ()
        )

    def inputs(self, tokens: Tensor, real: Tensor, types: Tensor | None) -> dict[str, Any]:
        """See Family.inputs. No mask: causal attention ignores padding on the right."""
        return {"input_ids": tokens, "use_cache": False}

    def attributes(self, block: nn.Module) -> dict[str, int]:
        """See Family.attributes."""
        attention, mlp = part(block, "self_attn"), part(block, "mlp")
        groups = _query_groups(attention)
        return {
            # The attention of uneven groups repeats KV heads itself.
            "self_attn.num_key_value_groups": groups[0] if len(set(groups)) == 1 else 1,
            "mlp.intermediate_size": int(mlp.up_proj.out_features),
        }

    def block_list(self, model: nn.Module) -> list[nn.Module]:
        return list(model.get_submodule(self.blocks).children())

    def ties_head(self, model: nn.Module) -> bool:
        """Whether output matrix and embedding share memory; False on the `meta` device."""
        head, embedding = part(model, self.head).weight, part(model, self.embedding).weight
        return bool(head.data_ptr() == embedding.data_ptr() != 0)

    def sublayer_output(self, kind: Kind) -> str | None:
        """See Family.sublayer_output: pre-norm, so the sum after the MLP is the block's output."""
        return "post_attention_layernorm" if kind == "attention" else None

    def reads_first_token_only(self, model: nn.Module) -> bool:
        """See Family.reads_first_token_only."""
        return False

    def network(self, model: nn.Module) -> Decoder:
        """See Family.network."""
        return self.decoder(model)

    def decoder(self, model: nn.Module) -> Decoder:
        """The tensors of the model, not copied.

        Raises:
            UnsupportedModelError: the rotary embedding depends on the sequence length.
        """
        config: Config = model.config
        rotary = part(model, self.rotary)
        if rotary.rope_type not in ("default", "linear", "llama3", "yarn"):
            raise UnsupportedModelError(
                f"rotary embedding `{rotary.rope_type}` depends on the sequence length,"
                " which a fixed graph cannot express",
                hint="use a checkpoint with default, linear, llama3 or yarn rotary embeddings",
            )
        embedding = part(model, self.embedding).weight
        head = projection(part(model, self.head))
        if self.ties_head(model):
            head = Projection(embedding, head.bias)
        return Decoder(
            name=str(config.model_type),
            embedding=embedding,
            layers=tuple(self._layers(model)),
            final_norm=part(model, self.final_norm).weight,
            head=head,
            head_dim=int(part(self.block_list(model)[0], "self_attn").head_dim),
            norm_eps=float(config.rms_norm_eps),
            activation=str(config.hidden_act),
            inverse_frequencies=rotary.inv_freq.float(),
            rotary_scale=float(rotary.attention_scaling),
            max_positions=int(config.max_position_embeddings),
        )

    def _layers(self, model: nn.Module) -> Iterator[DecoderLayer]:
        for index, block in enumerate(self.block_list(model)):
            attention, mlp = part(block, "self_attn"), part(block, "mlp")
            yield DecoderLayer(
                input_norm=part(block, "input_layernorm").weight,
                query=projection(attention.q_proj),
                key=projection(attention.k_proj),
                value=projection(attention.v_proj),
                output=projection(attention.o_proj),
                query_norm=attention.q_norm.weight if self.qk_norm else None,
                key_norm=attention.k_norm.weight if self.qk_norm else None,
                post_attention_norm=part(block, "post_attention_layernorm").weight,
                gate=projection(mlp.gate_proj),
                up=projection(mlp.up_proj),
                down=projection(mlp.down_proj),
                groups=_query_groups(attention),
                sliding_window=_sliding_window(model.config, index),
            )


def _query_groups(attention: Any) -> tuple[int, ...]:
    """Query heads of each KV head."""
    queries = int(attention.q_proj.out_features) // int(attention.head_dim)
    keys = int(attention.k_proj.out_features) // int(attention.head_dim)
    groups: tuple[int, ...] = getattr(attention, "query_groups", (queries // keys,) * keys)
    return groups


def _sliding_window(config: Config, index: int) -> int | None:
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[index] != "sliding_attention":
        return None
    # A window over all positions has no effect, but costs time in some runtimes.
    return None if window is None or window >= config.max_position_embeddings else window
