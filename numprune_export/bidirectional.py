"""The declaration of encoder families: BERT, RoBERTa, DistilBERT, with their task heads.

A unit is an attention head or an MLP neuron. A sublayer may lose all its units: what is left of it
is its consumer's bias, added to the residual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numprune_export.encoder import Encoder, EncoderLayer, Head, LayerNorm, Task
from numprune_export.family import declare_site, part, projection
from numprune_export.plan import Producer, Site

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TaskHead:
    """Where a task class keeps its head; paths from the model."""

    task: Task
    architecture: str
    """The class in transformers."""
    classifier: str
    dense: str | None = None
    activation: str | None = None


@dataclass(frozen=True)
class BidirectionalEncoder:
    """Post-norm blocks with full self-attention. Paths of parts of a block are from the block."""

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
    """Attributes of `self_attention` to follow: name to whether it counts columns, not heads."""
    activation_key: str
    token_types: bool
    positions_follow_padding: bool
    """Positions start after the padding token's own row, as in RoBERTa."""

    def head_of(self, model: nn.Module) -> TaskHead:
        """The head that belongs to the model's class."""
        name = type(model).__name__
        return next(one for one in self.heads if name.endswith(one.architecture))

    def sites(self, model: nn.Module) -> tuple[Site, ...]:
        """See Family.sites."""
        found = []
        for index, block in enumerate(self.block_list(model)):
            width = self._head_dim(block)
            heads = int(part(block, self.query).out_features) // width
            producers = tuple(Producer(path, width) for path in (self.query, self.key, self.value))
            found.append(
                declare_site(
                    block, index, "attention", heads, producers, self.attention_output, width, True
                )
            )
            neurons = int(part(block, self.up).out_features)
            up = (Producer(self.up, 1),)
            found.append(declare_site(block, index, "mlp", neurons, up, self.down, 1, True))
        return tuple(found)

    def inputs(self, tokens: Tensor, real: Tensor, types: Tensor | None) -> dict[str, Any]:
        """See Family.inputs."""
        found = {"input_ids": tokens, "attention_mask": real.long()}
        return found | ({"token_type_ids": types} if types is not None and self.token_types else {})

    def attributes(self, block: nn.Module) -> dict[str, int]:
        """See Family.attributes."""
        columns = int(part(block, self.query).out_features)
        heads = columns // self._head_dim(block)
        return {
            f"{self.self_attention}.{name}": columns if counts_columns else heads
            for name, counts_columns in self.head_attributes.items()
        }

    def block_list(self, model: nn.Module) -> list[nn.Module]:
        """See Family.block_list."""
        return list(model.get_submodule(self.blocks).children())

    def encoder(self, model: nn.Module) -> Encoder:
        """The model with its task head as its tensors, shared and not copied."""
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
            head_dim=self._head_dim(self.block_list(model)[0]),
            activation=str(getattr(config, self.activation_key)),
            max_positions=int(positions.shape[0]) - first,
        )

    def _layers(self, model: nn.Module) -> Iterator[EncoderLayer]:
        for block in self.block_list(model):
            query = projection(part(block, self.query))
            yield EncoderLayer(
                query=query,
                key=projection(part(block, self.key)),
                value=projection(part(block, self.value)),
                output=projection(part(block, self.attention_output)),
                attention_norm=_norm(part(block, self.attention_norm)),
                up=projection(part(block, self.up)),
                down=projection(part(block, self.down)),
                mlp_norm=_norm(part(block, self.mlp_norm)),
                heads=int(query.weight.shape[0]) // self._head_dim(block),
            )

    def _head_dim(self, block: nn.Module) -> int:
        return int(part(block, self.self_attention).attention_head_size)


def _norm(module: Any) -> LayerNorm:
    return LayerNorm(module.weight, module.bias, float(module.eps))
