"""Pruned models whose layers differ in width.

This file is copied into each checkpoint folder, so that torch and transformers alone can load it:

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

An encoder loads with the auto class of its task, for example AutoModelForTokenClassification.
AutoModel loads the model without its head, for embeddings and hidden states. The classes change
only sizes; the forward pass is that of transformers. The sizes are in `config.numprune["layers"]`,
one entry per block:

    linears     module path in the block -> [out_features, in_features, has_bias]
    attributes  attribute path in the block -> its value, which the forward pass reads
    emptied     path of the module of a sublayer without units -> its kind, and the path of the
                linear layer that keeps only its bias
    groups      path of an attention whose KV heads have different numbers of query heads -> those
                numbers
"""

import copy
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
    LlamaForCausalLM,
    LlamaModel,
    MistralForCausalLM,
    MistralModel,
    Qwen2ForCausalLM,
    Qwen2Model,
    Qwen3ForCausalLM,
    Qwen3Model,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward

QUERY_GROUPS = "numprune_query_groups"
"""Name of `grouped_attention` in the attention registry of transformers."""


class Constant(nn.Module):
    """A linear layer without inputs: its output is its bias, (out_features,)."""

    in_features = 0

    def __init__(self, out_features: int, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features = out_features
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype))

    @property
    def weight(self) -> Tensor:
        """(out_features, 0); not a parameter."""
        return self.bias.detach().new_empty(self.out_features, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(*x.shape[:-1], -1)


class Emptied(nn.Module):
    """Replaces the module of a sublayer that has no units left.

    If that module contains the sublayer's last linear layer, this one contains it as a Constant.
    """

    def __init__(self, kind: str, consumer: str, inside: str, constant: Constant) -> None:
        super().__init__()
        self.kind = kind
        self.consumer = consumer
        self.inside = inside
        if inside:
            self.add_module(inside, constant)

    def forward(self, hidden_states, *args, **kwargs):  # type: ignore[no-untyped-def]
        nothing = hidden_states[..., :0]
        output = self.get_submodule(self.inside)(nothing) if self.inside else nothing
        # Attention modules of transformers also return their weights.
        return (output, None) if self.kind == "attention" else output


def empty(block: nn.Module, kind: str, holder: str, consumer: str) -> None:
    """Remove all units of a sublayer.

    Args:
        kind: `attention` or `mlp`.
        holder: Path of the module that computes the units; it may contain the consumer.
        consumer: Path of the linear layer that reads them; its bias becomes zero.
    """
    block.get_submodule(holder)  # raises if there is none
    old = _linear(block, consumer)
    constant = Constant(old.out_features, old.weight.device, old.weight.dtype)
    _replace(block, consumer, constant)
    inside = consumer[len(holder) + 1 :] if consumer.startswith(f"{holder}.") else ""
    _replace(block, holder, Emptied(kind, consumer, inside, constant))


def grouped_attention(module, query, key, value, attention_mask, **settings):  # type: ignore[no-untyped-def]
    """The configured attention, with each KV head repeated for each of its query heads.

    The KV cache stores each KV head once: heads are repeated after it.
    """
    key, value = (_per_query_head(heads, module.query_groups) for heads in (key, value))
    name = module.shared_config._attn_implementation
    attend = eager_attention_forward if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
    return attend(module, query, key, value, attention_mask, **settings)


AttentionInterface.register(QUERY_GROUPS, grouped_attention)


def _per_query_head(x: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Repeat KV heads: (batch, KV heads, length, width) to (batch, query heads, length, width)."""
    parts, start = [], 0
    for size, run in groupby(groups):
        count = len(list(run))
        parts.append(x[:, start : start + count].repeat_interleave(size, dim=1))
        start += count
    return torch.cat(parts, dim=1)


def regroup(attention: Any, groups: tuple[int, ...]) -> None:
    """Set the number of neighbouring query heads of each KV head.

    Equal numbers need no custom attention.
    """
    if hasattr(attention, "query_groups"):
        attention.config = attention.shared_config
        del attention.query_groups, attention.shared_config
    if len(set(groups)) == 1:
        attention.num_key_value_groups = groups[0]
        return
    attention.num_key_value_groups = 1
    attention.query_groups = groups
    attention.shared_config = attention.config
    attention.config = copy.copy(attention.config)
    attention.config._attn_implementation = QUERY_GROUPS


class PerLayerWidths:
    """Mixin before a model class of transformers: rebuilds each block with its own widths."""

    # `save_pretrained` registers the class under this name and copies this file.
    _auto_class = "AutoModelForCausalLM"
    _blocks = "model.layers"

    def __init__(self, config, *args, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        layers = config.numprune["layers"]
        blocks = self.get_submodule(self._blocks)  # type: ignore[attr-defined]
        if len(layers) != len(blocks):
            raise ValueError(f"`numprune` lists {len(layers)} layers, the model has {len(blocks)}")
        for block, layer in zip(blocks, layers, strict=True):
            for path, (rows, columns, bias) in layer["linears"].items():
                _resize(block, path, rows, columns, bias)
            for path, value in layer["attributes"].items():
                parent, _, name = path.rpartition(".")
                setattr(block.get_submodule(parent), name, value)
            for path, groups in layer.get("groups", {}).items():
                regroup(block.get_submodule(path), tuple(groups))
            for path, rest in layer.get("emptied", {}).items():
                empty(block, rest["kind"], path, rest["consumer"])


def _resize(block: nn.Module, path: str, rows: int, columns: int, bias: bool) -> None:
    old = _linear(block, path)
    # On the device of the replaced layer: from_pretrained builds on `meta`, which takes no memory.
    new = nn.Linear(columns, rows, bias, device=old.weight.device, dtype=old.weight.dtype)
    _replace(block, path, new)


def _linear(block: nn.Module, path: str) -> nn.Linear:
    layer = block.get_submodule(path)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"`numprune` resizes `{path}`, which is not a linear layer")
    return layer


def _replace(block: nn.Module, path: str, new: nn.Module) -> None:
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


class NumpruneBertForSequenceClassification(PerLayerWidths, BertForSequenceClassification):  # type: ignore[misc]
    _auto_class = "AutoModelForSequenceClassification"
    _blocks = "bert.encoder.layer"


class NumpruneBertForTokenClassification(PerLayerWidths, BertForTokenClassification):  # type: ignore[misc]
    _auto_class = "AutoModelForTokenClassification"
    _blocks = "bert.encoder.layer"


class NumpruneBertForQuestionAnswering(PerLayerWidths, BertForQuestionAnswering):  # type: ignore[misc]
    _auto_class = "AutoModelForQuestionAnswering"
    _blocks = "bert.encoder.layer"


class NumpruneRobertaForSequenceClassification(PerLayerWidths, RobertaForSequenceClassification):  # type: ignore[misc]
    _auto_class = "AutoModelForSequenceClassification"
    _blocks = "roberta.encoder.layer"


class NumpruneRobertaForTokenClassification(PerLayerWidths, RobertaForTokenClassification):  # type: ignore[misc]
    _auto_class = "AutoModelForTokenClassification"
    _blocks = "roberta.encoder.layer"


class NumpruneRobertaForQuestionAnswering(PerLayerWidths, RobertaForQuestionAnswering):  # type: ignore[misc]
    _auto_class = "AutoModelForQuestionAnswering"
    _blocks = "roberta.encoder.layer"


class NumpruneDistilBertForSequenceClassification(
    PerLayerWidths,
    DistilBertForSequenceClassification,  # type: ignore[misc]
):
    _auto_class = "AutoModelForSequenceClassification"
    _blocks = "distilbert.transformer.layer"


class NumpruneDistilBertForTokenClassification(PerLayerWidths, DistilBertForTokenClassification):  # type: ignore[misc]
    _auto_class = "AutoModelForTokenClassification"
    _blocks = "distilbert.transformer.layer"


class NumpruneDistilBertForQuestionAnswering(PerLayerWidths, DistilBertForQuestionAnswering):  # type: ignore[misc]
    _auto_class = "AutoModelForQuestionAnswering"
    _blocks = "distilbert.transformer.layer"


class NumpruneLlamaModel(PerLayerWidths, LlamaModel):  # type: ignore[misc]
    _auto_class = "AutoModel"
    _blocks = "layers"


class NumpruneMistralModel(PerLayerWidths, MistralModel):  # type: ignore[misc]
    _auto_class = "AutoModel"
    _blocks = "layers"


class NumpruneQwen2Model(PerLayerWidths, Qwen2Model):  # type: ignore[misc]
    _auto_class = "AutoModel"
    _blocks = "layers"


class NumpruneQwen3Model(PerLayerWidths, Qwen3Model):  # type: ignore[misc]
    _auto_class = "AutoModel"
    _blocks = "layers"


class NumpruneBertModel(PerLayerWidths, BertModel):  # type: ignore[misc]
    _auto_class = "AutoModel"
    _blocks = "encoder.layer"


class NumpruneRobertaModel(PerLayerWidths, RobertaModel):  # type: ignore[misc]
    _auto_class = "AutoModel"
    _blocks = "encoder.layer"


class NumpruneDistilBertModel(PerLayerWidths, DistilBertModel):  # type: ignore[misc]
    _auto_class = "AutoModel"
    _blocks = "transformer.layer"


CLASSES = {
    cls.__bases__[1].__name__: cls
    for cls in (
        NumpruneLlamaForCausalLM,
        NumpruneMistralForCausalLM,
        NumpruneQwen2ForCausalLM,
        NumpruneQwen3ForCausalLM,
        NumpruneBertForSequenceClassification,
        NumpruneBertForTokenClassification,
        NumpruneBertForQuestionAnswering,
        NumpruneRobertaForSequenceClassification,
        NumpruneRobertaForTokenClassification,
        NumpruneRobertaForQuestionAnswering,
        NumpruneDistilBertForSequenceClassification,
        NumpruneDistilBertForTokenClassification,
        NumpruneDistilBertForQuestionAnswering,
    )
}
"""By the name of the transformers class that is resized."""

TRUNKS = {
    cls.config_class.model_type: cls
    for cls in (
        NumpruneLlamaModel,
        NumpruneMistralModel,
        NumpruneQwen2Model,
        NumpruneQwen3Model,
        NumpruneBertModel,
        NumpruneRobertaModel,
        NumpruneDistilBertModel,
    )
}
"""Classes without a head, by `model_type`."""
