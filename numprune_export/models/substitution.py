"""Substitution of parts of a block: replayed sublayer outputs, and the activation of an MLP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from numprune_export.models.batch import running
from numprune_export.models.site import Site
from numprune_export.numerics.gauss_newton import Activation


@dataclass(frozen=True)
class SublayerOutput:
    """The output of a sublayer for every batch, before the residual is added."""

    site: Site
    outputs: Sequence[Tensor]
    """(batch, length, hidden) each, by the batch's number; zero at padding."""


class _Replay(nn.Module):
    """Replaces the module of a sublayer: returns the stored output of the running batch."""

    def __init__(self, known: SublayerOutput) -> None:
        super().__init__()
        self.kind = known.site.kind
        self.outputs = known.outputs

    def forward(self, *_: Any, **__: Any) -> Any:
        batch = running()
        output = self.outputs[batch.number]
        if batch.chosen is not None:
            output = output[batch.chosen]
        # Attention modules of transformers also return their weights.
        return (output, None) if self.kind == "attention" else output


@contextmanager
def replayed_outputs(block: nn.Module, answers: Sequence[SublayerOutput]) -> Iterator[None]:
    """Replay stored sublayer outputs within a `with` statement."""
    originals: dict[str, nn.Module] = {}

    def put(path: str, module: nn.Module) -> None:
        originals[path] = block.get_submodule(path)
        block.set_submodule(path, module)

    try:
        for known in answers:
            holder, consumer = known.site.producers[0].path.rpartition(".")[0], known.site.consumer
            if not consumer.startswith(f"{holder}."):
                put(consumer, nn.Identity())
            put(holder, _Replay(known))
        yield
    finally:
        for path, module in originals.items():
            block.set_submodule(path, module)


class _Fixed(nn.Module):
    """Replaces a producer: returns `output`."""

    output: Any = None

    def forward(self, *_: Any) -> Any:
        return self.output


@contextmanager
def mlp_activation(block: nn.Module, site: Site) -> Iterator[Activation]:
    """The elementwise part of an MLP between its producers and its consumer, as a function.

    Within the `with` statement the producers and the consumer are replaced. Attention is not
    supported: it mixes tokens and depends on their positions.
    """
    assert site.kind == "mlp", site.name
    holder = site.producers[0].path.rpartition(".")[0]
    sources = [_Fixed() for _ in site.producers]
    replacements: dict[str, nn.Module] = {
        producer.path: source for producer, source in zip(site.producers, sources, strict=True)
    }
    if site.consumer.startswith(f"{holder}."):
        replacements[site.consumer] = nn.Identity()
    originals = {path: block.get_submodule(path) for path in replacements}

    def activation(outputs: Sequence[Tensor]) -> Tensor:
        for source, output in zip(sources, outputs, strict=True):
            source.output = output
        result: Tensor = block.get_submodule(holder)(outputs[0])
        return result

    try:
        for path, module in replacements.items():
            block.set_submodule(path, module)
        yield activation
    finally:
        for path, module in originals.items():
            block.set_submodule(path, module)
