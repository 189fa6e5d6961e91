"""Refit of a pruned MLP's producers and consumer to the dense MLP's outputs on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from numprune_export.calibration.statistics import Statistics, StatisticsAccumulator
from numprune_export.core.halving import in_parts
from numprune_export.models import block_runner
from numprune_export.models.batch import Batch, TokenRows, by_batch, joined
from numprune_export.models.site import Site
from numprune_export.models.substitution import mlp_activation
from numprune_export.numerics.gauss_newton import Sublayer, refit
from numprune_export.numerics.held import Held
from numprune_export.numerics.indexing import columns_of_units
from numprune_export.numerics.matmul_precision import multiplied
from numprune_export.pruning import rewrite
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit


@dataclass(frozen=True)
class MlpInputs:
    """Inputs of a dense MLP behind the pruned prefix, and its outputs for them; real tokens
    only."""

    consumer: Float[Tensor, "out n"]
    """Weight of the dense consumer."""
    statistics: Statistics
    """Statistics of the consumer's input, on the tokens that producers are fitted to."""
    inputs: Held
    """Inputs of the producers, one per batch, (tokens, in), in the dtype of layers' matmuls."""
    targets: Held
    """(fitted, out): outputs of the consumer for the tokens that it is fitted to, one per batch."""


def collect_mlp_inputs(
    block: nn.Module, site: Site, batches: list[Batch], repair: ClosedForm
) -> MlpInputs:
    """Collect the inputs of the dense MLP, and its outputs for the tokens that its consumer is
    fitted to.

    Raises:
        NumericalError: an activation was NaN or infinite.
    """
    settings, seen = _settings(repair), Held()

    def look(rows: TokenRows) -> None:
        seen.append(rows.values.to(multiplied()))

    def no_tick(_: int) -> None:
        return

    block_runner.capture_inputs(
        block, site.block, batches, {site.producers[0].path: look}, no_tick, run_on=False
    )

    inputs = by_batch(seen, batches)
    accumulator = StatisticsAccumulator(site.inputs, inputs[0].device)
    producers = [_product(_linear(block, producer.path)) for producer in site.producers]
    last = _linear(block, site.consumer)
    consumer, targets = _product(last), Held()
    with torch.no_grad(), mlp_activation(block, site) as activation:
        for x in inputs:
            fitted, outputs = x[:: repair.token_stride], list[Tensor]()

            def run(rows: slice, fitted: Tensor = fitted) -> tuple[TokenRows, Tensor]:
                value = activation([producer(fitted[rows]) for producer in producers])
                return TokenRows(value, rows.start), consumer(value)

            for value, output in in_parts(len(fitted), run, "tokens"):
                accumulator.add(value.every(settings.token_stride // repair.token_stride))
                outputs.append(output)
            targets.append(joined(outputs))
    return MlpInputs(last.weight, accumulator.result(site), inputs, targets)


def _settings(repair: ClosedForm) -> ProducerRefit:
    assert repair.producers is not None
    return repair.producers


def _product(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """A layer's output, fp32, at the present matmul precision; its weight is converted once."""
    weight = layer.weight.to(multiplied())
    bias = None if layer.bias is None else layer.bias.float()

    def product(x: Float[Tensor, "tokens in"]) -> Float[Tensor, "tokens out"]:
        output = functional.linear(x.to(weight.dtype), weight).float()
        return output if bias is None else output + bias

    return product


def refit_mlp(
    block: nn.Module,
    site: Site,
    kept: Sequence[int],
    known: MlpInputs,
    repair: ClosedForm,
) -> Held:
    """Replace the weights of a cut MLP by refitted ones, in the same dtype.

    Returns:
        The output of the refitted MLP, (tokens, out), one per batch.
    """
    consumer = _linear(block, site.consumer)
    producers = [_linear(block, producer.path) for producer in site.producers]
    columns = columns_of_units(site.layout(kept), site.consumer_width, consumer.weight.device)
    dense = known.consumer[:, columns]
    with mlp_activation(block, site) as activation:
        refitted = refit(
            Sublayer(activation, producers, consumer, dense),
            known.inputs, known.targets, _settings(repair),
            token_stride=repair.token_stride, damping=repair.damping,
        )  # fmt: skip
    dtype = consumer.weight.dtype
    for producer, (weight, bias) in zip(site.producers, refitted.producers, strict=True):
        linear = rewrite.linear_of(weight.to(dtype), None if bias is None else bias.to(dtype))
        block.set_submodule(producer.path, linear)
    rewrite.replace_consumer(block, site, refitted.consumer.to(dtype), consumer.bias)
    return Held(output.to(dtype) for output in refitted.outputs.drained())


def _linear(block: nn.Module, path: str) -> nn.Linear:
    linear = block.get_submodule(path)
    assert isinstance(linear, nn.Linear), path
    return linear
