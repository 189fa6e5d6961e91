"""A pruned MLP's producers and consumer refitted to what the dense one made of the same inputs."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from numprune_export import blocks, rewrite
from numprune_export.between import between
from numprune_export.blocks import Batch
from numprune_export.calibrate import Gathering, Statistics
from numprune_export.plan import Site
from numprune_export.producer_refit import ProducerRefit, refit


@dataclass(frozen=True)
class Examples:
    """What reached a dense MLP behind the pruned prefix, and what it made of it: real tokens only."""

    statistics: Statistics
    """Of the consumer's input, on the batches that producers are fitted to."""
    inputs: list[Float[Tensor, "tokens in"]]
    """The producers', batch by batch."""
    targets: list[Float[Tensor, "tokens out"]]
    """The consumer's output, batch by batch."""


def examples(block: nn.Module, site: Site, batches: list[Batch], every: int) -> Examples:
    """Run the dense MLP over all batches, statistics of one in so many.

    Raises:
        NumericalError: an activation was NaN or infinite.
    """
    gathering = Gathering(site.units * site.consumer_width, batches[0].hidden.device)
    consumer = _linear(block, site.consumer)
    inputs: list[Tensor] = []
    targets: list[Tensor] = []

    def made(rows: Tensor) -> None:
        if len(targets) % every == 0:
            gathering.add(rows)
        # Not called: this runs in a hook of its own.
        targets.append(functional.linear(rows, consumer.weight, consumer.bias))

    def no_tick(_: int) -> None:
        return

    layers = {site.producers[0].path: inputs.append, site.consumer: made}
    blocks.watch(block, site.block, batches, layers, no_tick, run_on=False)
    return Examples(gathering.finish(site), inputs, targets)


def refit_mlp(
    block: nn.Module, site: Site, known: Examples, settings: ProducerRefit, damping: float
) -> list[Float[Tensor, "tokens out"]]:
    """Put refitted weights in the place of a cut MLP's, in their dtype; what it makes of each batch."""
    consumer = _linear(block, site.consumer)
    producers = [_linear(block, one.path) for one in site.producers]
    with between(block, site) as activation:
        found = refit(
            activation, producers, consumer, known.inputs, known.targets, settings, damping
        )
    dtype = consumer.weight.dtype
    for path, (weight, bias) in zip(site.producers, found.producers, strict=True):
        made = rewrite.linear_of(weight.to(dtype), None if bias is None else bias.to(dtype))
        block.set_submodule(path.path, made)
    rewrite.replace_consumer(block, site, found.consumer.to(dtype), consumer.bias)
    return [one.to(dtype) for one in found.outputs]


def _linear(block: nn.Module, path: str) -> nn.Linear:
    found = block.get_submodule(path)
    assert isinstance(found, nn.Linear), path
    return found
