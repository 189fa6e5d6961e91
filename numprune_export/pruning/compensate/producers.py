"""A pruned MLP's producers and consumer refitted to what the dense one made of the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from numprune_export.calibration.statistics import Statistics, StatisticsAccumulator
from numprune_export.models import block_runner
from numprune_export.models.block_runner import Batch
from numprune_export.models.site import Site
from numprune_export.models.substitution import mlp_activation
from numprune_export.numerics.gauss_newton import refit
from numprune_export.numerics.indexing import columns_of_units
from numprune_export.numerics.matmul_precision import multiplied
from numprune_export.pruning import rewrite
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit


@dataclass(frozen=True)
class MlpInputs:
    """What reached a dense MLP behind the pruned prefix, and what it made of it: real tokens only."""

    consumer: Float[Tensor, "out n"]
    """Its weight."""
    statistics: Statistics
    """Of the consumer's input, on the tokens that producers are fitted to."""
    inputs: list[Float[Tensor, "tokens in"]]
    """The producers', batch by batch, in the dtype that layers multiply."""
    targets: list[Float[Tensor, "fitted out"]]
    """The consumer's output for those that it is fitted to, batch by batch."""


def collect_mlp_inputs(
    block: nn.Module, site: Site, batches: list[Batch], repair: ClosedForm
) -> MlpInputs:
    """What reaches the dense MLP, and what it makes of the tokens that its consumer is fitted to.

    Raises:
        NumericalError: an activation was NaN or infinite.
    """
    settings, inputs = _settings(repair), list[Tensor]()

    def look(rows: Tensor) -> None:
        inputs.append(rows.to(multiplied()))

    def no_tick(_: int) -> None:
        return

    block_runner.capture_inputs(
        block, site.block, batches, {site.producers[0].path: look}, no_tick, run_on=False
    )

    gathering = StatisticsAccumulator(site.inputs, inputs[0].device)
    producers = [_product(_linear(block, one.path)) for one in site.producers]
    last = _linear(block, site.consumer)
    consumer, targets = _product(last), []
    with torch.no_grad(), mlp_activation(block, site) as activation:
        for x in inputs:
            fitted = x[:: repair.token_stride]
            value = activation([one(fitted) for one in producers])
            gathering.add(value[:: settings.token_stride // repair.token_stride])
            targets.append(consumer(value))
    return MlpInputs(last.weight, gathering.result(site), inputs, targets)


def _settings(repair: ClosedForm) -> ProducerRefit:
    assert repair.producers is not None
    return repair.producers


def _product(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """A layer that multiplies as all do here, its weight converted once; fp32."""
    weight = layer.weight.to(multiplied())
    bias = None if layer.bias is None else layer.bias.float()

    def made(x: Float[Tensor, "tokens in"]) -> Float[Tensor, "tokens out"]:
        found = functional.linear(x.to(weight.dtype), weight).float()
        return found if bias is None else found + bias

    return made


def refit_mlp(
    block: nn.Module,
    site: Site,
    kept: Sequence[int],
    known: MlpInputs,
    repair: ClosedForm,
) -> list[Float[Tensor, "tokens out"]]:
    """Put refitted weights in the place of a cut MLP's, in their dtype; what it makes of each batch."""
    consumer = _linear(block, site.consumer)
    producers = [_linear(block, one.path) for one in site.producers]
    dense = known.consumer[:, columns_of_units(site.layout(kept), site.consumer_width)]
    with mlp_activation(block, site) as activation:
        found = refit(
            activation, producers, consumer, dense, known.inputs, known.targets, _settings(repair),
            every=repair.token_stride, damping=repair.damping,
        )  # fmt: skip
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
