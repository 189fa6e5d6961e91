"""Declaration of encoder families: BERT, RoBERTa, DistilBERT, with their task heads.

A unit is an attention head or an MLP neuron. A sublayer may lose all its units: only its consumer's
bias remains, added to the residual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numprune_export.export.decoder import Projection
from numprune_export.export.encoder import Encoder, EncoderLayer, Head, LayerNorm, Task
from numprune_export.models.family import LayerPaths, NetworkKind, declare_site, part, projection
from numprune_export.models.site import Kind, Producer, Site

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TaskHead:
    """The head of a task class; paths are relative to the model."""

    task: Task
    architecture: str
    """Name of the class in transformers."""
    classifier: str
    dense: str | None = None
    activation: str | None = None


@dataclass(frozen=True)
class BidirectionalEncoder:
    """Post-norm blocks with full self-attention. Paths of block parts are relative to the block."""

    model_type: str
    heads: tuple[TaskHead, ...]
    trunk: str
    """Path of the model without its head."""
    blocks: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    up: str
    down: str
    mlp_norm: str
    self_attention: str
    """The module whose forward splits the heads."""
    head_attributes: Mapping[str, bool]
    """Attributes of `self_attention` that depend on its width; True: counts columns, not heads."""
    activation_key: str
    neurons_key: str
    """Config key of the number of neurons of every layer."""
    token_types: bool
    positions_follow_padding: bool
    """Positions start after the row of the padding token, as in RoBERTa."""

    @property
    def kind(self) -> NetworkKind:
        """See Family.kind."""
        return "encoder"

    @property
    def causal(self) -> bool:
        """See Family.causal."""
        return False

    @property
    def architectures(self) -> tuple[str, ...]:
        """See Family.architectures."""
        return tuple(head.architecture for head in self.heads)

    def head_of(self, model: nn.Module) -> TaskHead:
        """The task head of the model's class."""
        name = type(model).__name__
        return next(head for head in self.heads if name.endswith(head.architecture))

    def sites(self, model: nn.Module) -> tuple[Site, ...]:
        """See Family.sites."""
        sites = []
        width = _head_dim(model)
        for index, block in enumerate(self.block_list(model)):
            if _has_units(block, self.attention_output):
                heads = int(part(block, self.query).out_features) // width
                producers = tuple(
                    Producer(path, width) for path in (self.query, self.key, self.value)
                )
                layers = LayerPaths(producers, self.attention_output, width)
                sites.append(declare_site(block, index, "attention", heads, layers, True))
            if _has_units(block, self.down):
                neurons = int(part(block, self.up).out_features)
                layers = LayerPaths((Producer(self.up, 1),), self.down, 1)
                sites.append(declare_site(block, index, "mlp", neurons, layers, True))
        return tuple(sites)

    def inputs(self, tokens: Tensor, real: Tensor, types: Tensor | None) -> dict[str, Any]:
        """See Family.inputs."""
        inputs = {"input_ids": tokens, "attention_mask": real.long()}
        if types is not None and self.token_types:
            inputs["token_type_ids"] = types
        return inputs

    def attributes(self, block: nn.Module) -> dict[str, int]:
        """See Family.attributes."""
        if not _has_units(block, self.attention_output):
            return {}
        columns = int(part(block, self.query).out_features)
        heads = columns // int(part(block, self.self_attention).attention_head_size)
        return {
            f"{self.self_attention}.{name}": columns if counts_columns else heads
            for name, counts_columns in self.head_attributes.items()
        }

    def block_list(self, model: nn.Module) -> list[nn.Module]:
        """See Family.block_list."""
        return list(model.get_submodule(self.blocks).children())

    def sublayer_output(self, kind: Kind) -> str:
        """See Family.sublayer_output: with post-norm, each sum is the input of a norm."""
        return self.attention_norm if kind == "attention" else self.mlp_norm

    def reads_first_token_only(self, model: nn.Module) -> bool:
        """See Family.reads_first_token_only: True for heads with one output per text."""
        return self.head_of(model).task == "sequence"

    def with_single_query_heads(self) -> BidirectionalEncoder:
        """See Family.with_single_query_heads: each query head already has its own key and value."""
        return self

    def network(self, model: nn.Module) -> Encoder:
        """See Family.network."""
        return self.encoder(model)

    def encoder(self, model: nn.Module) -> Encoder:
        """The tensors of the model with its task head, not copied."""
        config: Any = model.config
        embeddings = part(part(model, self.trunk), "embeddings")
        head, positions = self.head_of(model), embeddings.position_embeddings.weight
        first = int(config.pad_token_id) + 1 if self.positions_follow_padding else 0
        return Encoder(
            name=str(config.model_type),
            embedding=embeddings.word_embeddings.weight,
            position_embedding=positions,
            first_position=first,
            type_embedding=embeddings.token_type_embeddings.weight if self.token_types else None,
            embedding_norm=_norm(embeddings.LayerNorm),
            layers=tuple(self._layers(model)),
            head=Head(
                task=head.task,
                dense=None if head.dense is None else projection(part(model, head.dense)),
                activation=head.activation,
                classifier=projection(part(model, head.classifier)),
            ),
            head_dim=_head_dim(model),
            activation=str(getattr(config, self.activation_key)),
            max_positions=int(positions.shape[0]) - first,
        )

    def _layers(self, model: nn.Module) -> Iterator[EncoderLayer]:
        for block in self.block_list(model):
            output, down = part(block, self.attention_output), part(block, self.down)
            query, key, value = (
                _producer(block, path, output) for path in (self.query, self.key, self.value)
            )
            yield EncoderLayer(
                query=query,
                key=key,
                value=value,
                output=projection(output),
                attention_norm=_norm(part(block, self.attention_norm)),
                up=_producer(block, self.up, down),
                down=projection(down),
                mlp_norm=_norm(part(block, self.mlp_norm)),
                heads=int(query.weight.shape[0]) // _head_dim(model),
            )


def _has_units(block: nn.Module, consumer: str) -> bool:
    return int(part(block, consumer).in_features) > 0


def _producer(block: nn.Module, path: str, consumer: Any) -> Projection:
    """A producer's tensors; without rows if the sublayer has no units and no producers."""
    if consumer.in_features:
        return projection(part(block, path))
    return Projection(consumer.weight.T, consumer.bias[:0])


def _head_dim(model: Any) -> int:
    """Head dimension of the dense model, whose values a pruned model's config keeps."""
    return int(model.config.hidden_size) // int(model.config.num_attention_heads)


def _norm(module: Any) -> LayerNorm:
    return LayerNorm(module.weight, module.bias, float(module.eps))
