"""Sublayers whose outputs are there already: a block runs on without computing them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from torch import Tensor, nn

from numprune_export.models.site import Site
from numprune_export.numerics.gauss_newton import Activation


@dataclass(frozen=True)
class SublayerOutput:
    """What one sublayer puts out for every batch, before the residual is added."""

    site: Site
    outputs: Sequence[Tensor]
    """(batch, length, hidden) each, in the order of the batches; zero where padded."""


class _Answer(nn.Module):
    """Stands in for what computes a sublayer: gives the next batch's output, whatever comes in."""

    def __init__(self, known: SublayerOutput) -> None:
        super().__init__()
        self.kind = known.site.kind
        self.outputs = cycle(known.outputs)

    def forward(self, *_: Any, **__: Any) -> Any:
        output = next(self.outputs)
        # Attention modules of transformers return their weights too.
        return (output, None) if self.kind == "attention" else output


@contextmanager
def replayed_outputs(block: nn.Module, answers: Sequence[SublayerOutput]) -> Iterator[None]:
    """For the time of a `with`, these sublayers are not computed; the batches run in their order."""
    whole: dict[str, nn.Module] = {}

    def put(path: str, module: nn.Module) -> None:
        whole[path] = block.get_submodule(path)
        block.set_submodule(path, module)

    try:
        for known in answers:
            holder, consumer = known.site.producers[0].path.rpartition(".")[0], known.site.consumer
            if not consumer.startswith(f"{holder}."):
                put(consumer, nn.Identity())
            put(holder, _Answer(known))
        yield
    finally:
        for path, module in whole.items():
            block.set_submodule(path, module)


class _Given(nn.Module):
    """Stands in for a producer: what it is given to put out."""

    output: Any = None

    def forward(self, *_: Any) -> Any:
        return self.output


@contextmanager
def mlp_activation(block: nn.Module, site: Site) -> Iterator[Activation]:
    """For the time of a `with`, a site's producers and consumer are out, and what is between them can
    be called. For an MLP: attention mixes tokens, and needs to know their places."""
    assert site.kind == "mlp", site.name
    holder = site.producers[0].path.rpartition(".")[0]
    given = [_Given() for _ in site.producers]
    stand_ins: dict[str, nn.Module] = {
        producer.path: one for producer, one in zip(site.producers, given, strict=True)
    }
    if site.consumer.startswith(f"{holder}."):
        stand_ins[site.consumer] = nn.Identity()
    whole = {path: block.get_submodule(path) for path in stand_ins}

    def activation(outputs: Sequence[Tensor]) -> Tensor:
        for one, output in zip(given, outputs, strict=True):
            one.output = output
        found: Tensor = block.get_submodule(holder)(outputs[0])
        return found

    try:
        for path, module in stand_ins.items():
            block.set_submodule(path, module)
        yield activation
    finally:
        for path, module in whole.items():
            block.set_submodule(path, module)
