"""config.json of a pruned model: the dense values, or a stock config that describes the model."""

import json
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from numprune_export.models.checkpoint.classes import auto_class
from numprune_export.models.checkpoint.widths import LayerWidths
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.models.families import architecture_of, mistral
from numprune_export.models.family import Family

_OURS = ("numprune", "auto_map", "quantization_config", "_model_name_or_path")
_LLAMA_ONLY = ("attention_bias", "mlp_bias", "pretraining_tp")


def dense_values(model: PreTrainedModel, family: Family) -> dict[str, Any]:
    """The dense model's config, in a form that transformers 4 and 5 read alike.

    `tie_word_embeddings` is that of the model in memory.

    transformers 5 writes only `rope_parameters`; version 4 reads only `rope_theta` and
    `rope_scaling`, and without them silently uses a base of 10000. Both forms are written.
    """
    values: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=True))
    for key in _OURS:
        values.pop(key, None)
    values["model_type"] = family.model_type
    values["architectures"] = [architecture_of(family, [type(model).__name__])]
    values["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    if isinstance(family, RotaryDecoder):
        # Not from the dense config: if it is wrong, a reader would drop an untied head.
        values["tie_word_embeddings"] = family.ties_head(model)
    rotation = values.get("rope_parameters")
    if rotation is not None:
        values["rope_theta"] = rotation["rope_theta"]
        if rotation["rope_type"] != "default":
            values["rope_scaling"] = {k: v for k, v in rotation.items() if k != "rope_theta"}
    return values


def stock_values(
    model: PreTrainedModel, family: Family, layers: tuple[LayerWidths, ...]
) -> dict[str, Any] | None:
    """A config that transformers loads without custom code, or None if there is none.

    The config has the widths of the first layer, and the model that transformers builds from it
    must have exactly the same tensors. There is none if layers differ in width or have a bias that the
    class does not support. An encoder's config cannot express fewer heads of the same size.
    """
    if any(layer.emptied or layer.groups for layer in layers):
        return None
    values = dense_values(model, family)
    if isinstance(family, RotaryDecoder):
        values = _with_widths(values, layers[0], _head_dim(model, family))
        if family.heads_divide_hidden and values["hidden_size"] % values["num_attention_heads"]:
            values = _as_mistral(values)
    elif isinstance(family, BidirectionalEncoder):
        values[family.neurons_key] = layers[0].linears[family.up][0]
    return values if _builds(values, model) else None


def _with_widths(values: dict[str, Any], layer: LayerWidths, head_dim: int) -> dict[str, Any]:
    return values | {
        "head_dim": head_dim,
        "num_attention_heads": layer.linears["self_attn.q_proj"][0] // head_dim,
        "num_key_value_heads": layer.linears["self_attn.k_proj"][0] // head_dim,
        "intermediate_size": layer.linears["mlp.up_proj"][0],
    }


def _as_mistral(values: dict[str, Any]) -> dict[str, Any]:
    """Convert to Mistral, the same network: LlamaConfig rejects head counts that do not divide
    hidden_size."""
    kept = {key: value for key, value in values.items() if key not in _LLAMA_ONLY}
    return kept | {
        "model_type": mistral.FAMILY.model_type,
        "architectures": [mistral.FAMILY.architecture],
        "sliding_window": None,
    }


def _builds(values: dict[str, Any], model: PreTrainedModel) -> bool:
    """Whether a model built from the config has exactly the same tensors; allocates no memory."""
    config = AutoConfig.for_model(**values)
    with torch.device("meta"):
        built = auto_class(values["architectures"][0]).from_config(config)
    return _shapes(built) == _shapes(model)


def _shapes(model: PreTrainedModel) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _head_dim(model: PreTrainedModel, family: Family) -> int:
    attention: Any = family.block_list(model)[0].get_submodule("self_attn")
    return int(attention.head_dim)
