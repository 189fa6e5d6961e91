"""Pruned models whose layers differ in width.

A checkpoint folder carries this file, so that it loads with torch and transformers alone, here a
decoder; an encoder loads by the class of its task, AutoModelForTokenClassification for example:

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

AutoModel gives the same without its head, for embeddings and hidden states. The classes change sizes and nothing else: the forward pass is the one of transformers. The sizes
come from `config.numprune["layers"]`, one entry per block:

    linears     module path in the block -> [out_features, in_features, has_bias]
    attributes  attribute path in the block -> the number that the forward pass reads there
    emptied     path of what computed the units of a sublayer that has none left -> its kind, and
                the path of the linear layer of which only the bias is left
    groups      path of an attention whose KV heads serve different numbers of query heads -> those
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
"""The name under which transformers finds `grouped_attention`."""


class Constant(nn.Module):
    """A linear layer without inputs: its bias (out_features,), whatever comes in."""

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
    """Stands in for what computed the units of a sublayer that has none left.

    Where the last linear layer of the sublayer was part of that, it is part of this, as a Constant.
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
        answer = self.get_submodule(self.inside)(nothing) if self.inside else nothing
        # Attention modules of transformers return their weights too.
        return (answer, None) if self.kind == "attention" else answer


def empty(block: nn.Module, kind: str, holder: str, consumer: str) -> None:
    """Take a sublayer's units away, all of them.

    Args:
        kind: `attention` or `mlp`.
        holder: Path of the module that computes the units; it may contain the consumer.
        consumer: Path of the linear layer that reads them; its bias becomes zero.
    """
    block.get_submodule(holder)  # raises where there is none
    old = _linear(block, consumer)
    constant = Constant(old.out_features, old.weight.device, old.weight.dtype)
    _replace(block, consumer, constant)
    inside = consumer[len(holder) + 1 :] if consumer.startswith(f"{holder}.") else ""
    _replace(block, holder, Emptied(kind, consumer, inside, constant))


def grouped_attention(module, query, key, value, attention_mask, **settings):  # type: ignore[no-untyped-def]
    """The attention that the model is set to, each KV head handed to it once per query head.

    The cache holds every KV head once: this comes after it.
    """
    key, value = (_per_query_head(one, module.query_groups) for one in (key, value))
    name = module.shared_config._attn_implementation
    attend = eager_attention_forward if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
    return attend(module, query, key, value, attention_mask, **settings)


AttentionInterface.register(QUERY_GROUPS, grouped_attention)


def _per_query_head(x: Tensor, groups: tuple[int, ...]) -> Tensor:
    """(batch, KV heads, length, width) to (batch, query heads, length, width)."""
    parts, start = [], 0
    for size, run in groupby(groups):
        count = len(list(run))
        parts.append(x[:, start : start + count].repeat_interleave(size, dim=1))
        start += count
    return torch.cat(parts, dim=1)


def regroup(attention: Any, groups: tuple[int, ...]) -> None:
    """Say how many query heads, side by side, read each KV head of an attention.

    Equal numbers are what transformers computes by itself.
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
    """Mixin before a class of transformers: rebuilds each block at its own widths."""

    # Where `save_pretrained` registers the class, and why it copies this file along.
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
    # Made on the device of the layer it replaces: on `meta`, where from_pretrained builds a model,
    # neither of the two takes memory.
    new = nn.Linear(columns, rows, bias, device=old.weight.device, dtype=old.weight.dtype)
    _replace(block, path, new)


def _linear(block: nn.Module, path: str) -> nn.Linear:
    found = block.get_submodule(path)
    if not isinstance(found, nn.Linear):
        raise ValueError(f"`numprune` resizes `{path}`, which is not a linear layer")
    return found


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
    one.__bases__[1].__name__: one
    for one in (
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
"""By the class of transformers that it resizes."""

TRUNKS = {
    one.config_class.model_type: one
    for one in (
        NumpruneLlamaModel,
        NumpruneMistralModel,
        NumpruneQwen2Model,
        NumpruneQwen3Model,
        NumpruneBertModel,
        NumpruneRobertaModel,
        NumpruneDistilBertModel,
    )
}
"""By `model_type`: the model without its head."""
