"""A sublayer's producers refitted as well as its consumer: Gauss-Newton by conjugate gradients.

The kept units put out V·a(U₁x, U₂x, …), a elementwise. The consumer V alone has a closed form; with V as it
is, changing the producers by δ changes the output by V·Σₚ (∂a/∂uₚ ∘ δₚx), which is linear in δ again:

    min over δ of Σₜ ‖tₜ − yₜ − V·Σₚ (∂a/∂uₚ ∘ δₚxₜ)‖² + damping·⟨δ, P δ⟩

with t what the dense sublayer makes of the same x, and P the normal equations with everything between
different units, and between a slope and x, taken as independent: tokens · |vⱼ|² · E[(∂a/∂uₚⱼ)²] · E[x xᵀ]. P is also
the preconditioner (Hestenes & Stiefel 1952), so that a few iterations are enough, and stopping early is a
ridge of its own. After the step V is refitted in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import linear

from numprune_export.between import Activation
from numprune_export.calibrate import add_upper_gram, mirrored
from numprune_export.strict import Strict

CHUNK = 1024
"""Tokens whose intermediate values are alive at once."""
PARTS = (1.0, 0.5, 0.25)
"""Of a step, the first that lets the error fall is taken: the sublayer is linear only near by."""
FLOOR = 1e-3
"""Units count at least by so much of the mean one in P."""
ROUNDING = 1e-12
"""Of the squared gradient in the metric of P, what is left is fp32's."""
RIDGE = 0.01
"""On E[x xᵀ] in P, relative to the mean of its diagonal."""


class ProducerRefit(Strict):
    """How the layers before the activation are refitted."""

    iterations: PositiveInt = 2
    """Of conjugate gradients."""
    every: PositiveInt = 3
    """Fitted to one batch of calibration texts in so many."""
    damping: PositiveFloat = 0.01
    """Ridge on the change, relative to what it makes of the output."""


@dataclass(frozen=True)
class Refitted:
    """New weights, fp32, and what they make."""

    producers: tuple[tuple[Float[Tensor, "k in"], Float[Tensor, " k"] | None], ...]
    """Weight and bias of each; a bias where there was one."""
    consumer: Float[Tensor, "out k"]
    outputs: list[Float[Tensor, "tokens out"]]
    """Of each batch."""
    error_before: float
    """Σ ‖t − y‖² over the batches that producers were fitted to."""
    error_after: float


def refit(
    activation: Activation,
    producers: Sequence[nn.Linear],
    consumer: nn.Linear,
    inputs: Sequence[Float[Tensor, "tokens in"]],
    targets: Sequence[Float[Tensor, "tokens out"]],
    settings: ProducerRefit,
    damping: float,
) -> Refitted:
    """One step, and the consumer's closed form after it; no step where the error does not fall by it.

    Args:
        activation: What is between producers and consumer, elementwise.
        producers: Of the kept units, with or without a bias.
        consumer: As refitted to them; its bias stays.
        inputs: x of each batch. Producers are fitted to one in so many, the consumer to all.
        targets: t of each batch, the consumer's bias with them.
        settings: Of the step.
        damping: Ridge on the change of the consumer, relative to the mean of its inputs' squares.
    """
    with torch.no_grad():
        bias = consumer.bias
        start = torch.stack([_whole(one) for one in producers])
        xs = inputs if producers[0].bias is None else [_with_one(one) for one in inputs]
        ts = targets if bias is None else [one - bias for one in targets]
        xs, ts = [one.float() for one in xs], [one.float() for one in ts]
        v = consumer.weight.float()

        some = xs[:: settings.every], ts[:: settings.every]
        step, before = _step(activation, start, v, *some, settings)
        shorter = (start + part * step for part in PARTS)
        weights = next(
            (one for one in shorter if _error(activation, one, v, *some) < before), start
        )
        found, outputs = _consumer(activation, weights, v, xs, ts, damping)
        pairs = zip(outputs[:: settings.every], some[1], strict=True)
        after = sum(_squares(wanted - made) for made, wanted in pairs)
    if bias is not None:
        outputs = [one + bias.float() for one in outputs]
    biased = producers[0].bias is not None
    # Each in memory of its own, as a checkpoint needs it.
    parts = (
        (one[:, :-1].clone(), one[:, -1].clone()) if biased else (one.clone(), None)
        for one in weights
    )
    return Refitted(tuple(parts), found, outputs, before, after)


def _error(
    activation: Activation,
    weights: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
) -> float:
    pairs = zip(inputs, targets, strict=True)
    made = ((linear(activation([linear(x, one) for one in weights]), v), t) for x, t in pairs)
    return sum(_squares(wanted - output) for output, wanted in made)


def _squares(error: Tensor) -> float:
    return float(error.double().square().sum())


def _with_one(x: Float[Tensor, "tokens in"]) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def _whole(linear: nn.Linear) -> Float[Tensor, "k in"]:
    """The weight in fp32, with the bias as the last of its inputs if there is one."""
    weight = linear.weight.float()
    return weight if linear.bias is None else torch.cat([weight, linear.bias.float()[:, None]], 1)


@dataclass(frozen=True)
class _Linearised:
    """The sublayer around its present weights: J and its transpose, a chunk of tokens at a time."""

    inputs: tuple[Tensor, ...]
    slopes: tuple[tuple[Tensor, ...], ...]
    """∂a/∂uₚ of each chunk and producer, (tokens, k)."""
    consumer: Float[Tensor, "out k"]

    def normal(self, change: Float[Tensor, "p k in"]) -> Float[Tensor, "p k in"]:
        """JᵀJ·δ."""
        found = torch.zeros_like(change)
        for x, slopes in zip(self.inputs, self.slopes, strict=True):
            units = slopes[0] * linear(x, change[0])
            for slope, part in zip(slopes[1:], change[1:], strict=True):
                units.addcmul_(slope, linear(x, part))
            self._back(linear(units, self.consumer), x, slopes, found)
        return found

    def transposed(self, errors: Sequence[Tensor], like: Tensor) -> Float[Tensor, "p k in"]:
        """Jᵀ·y, y of each chunk, (tokens, out)."""
        found = torch.zeros_like(like)
        for error, x, slopes in zip(errors, self.inputs, self.slopes, strict=True):
            self._back(error, x, slopes, found)
        return found

    def _back(self, error: Tensor, x: Tensor, slopes: Sequence[Tensor], into: Tensor) -> None:
        units = linear(error, self.consumer.T)
        for slope, part in zip(slopes, into, strict=True):
            part.add_(linear((slope * units).T, x.T))


def _step(
    activation: Activation,
    weights: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
    settings: ProducerRefit,
) -> tuple[Float[Tensor, "p k in"], float]:
    """δ, and the error before it."""
    chunks = tuple(part for one in inputs for part in torch.split(one, CHUNK))
    wanted_of = (part for one in targets for part in torch.split(one, CHUNK))
    slopes, errors, before = [], [], 0.0
    for part, wanted in zip(chunks, wanted_of, strict=True):
        value, slope = _slopes(activation, [linear(part, one) for one in weights])
        slopes.append(slope)
        errors.append(wanted - linear(value, v))
        before += _squares(errors[-1])
    model = _Linearised(chunks, tuple(slopes), v)
    curvature = _independent(model)
    inverse = torch.linalg.inv(curvature.inputs.double()).float()

    change, left = torch.zeros_like(weights), model.transposed(errors, weights)
    ahead = direction = left @ inverse / curvature.units
    size = first = float((left * ahead).double().sum())
    for _ in range(settings.iterations):
        if not size > ROUNDING * first:
            break
        bent = model.normal(direction)
        bent += settings.damping * curvature.units * (direction @ curvature.inputs)
        length = size / float((direction * bent).double().sum())
        change = change + length * direction
        left = left - length * bent
        ahead = left @ inverse / curvature.units
        size, last = float((left * ahead).double().sum()), size
        direction = ahead + (size / last) * direction
    return change, before


def _slopes(
    activation: Activation, outputs: list[Tensor]
) -> tuple[Tensor, tuple[Float[Tensor, "tokens k"], ...]]:
    """The activation and its derivative in every producer's output."""
    with torch.enable_grad():
        leaves = [one.detach().requires_grad_() for one in outputs]
        value = activation(leaves)
        slopes = torch.autograd.grad(value.sum(), leaves)
    return value.detach(), slopes


@dataclass(frozen=True)
class _Independent:
    """P: a number a unit and producer, and one matrix of inputs for all of them."""

    units: Float[Tensor, "p k 1"]
    inputs: Float[Tensor, "in in"]


def _independent(model: _Linearised) -> _Independent:
    tokens = sum(len(one) for one in model.inputs)
    parts = zip(*model.slopes, strict=True)
    squares = torch.stack(
        [sum((one.square().sum(0) for one in part), start=torch.zeros(())) for part in parts]
    )
    units = squares * model.consumer.square().sum(0)
    units = units + FLOOR * (units.mean(1, keepdim=True) + torch.finfo(units.dtype).tiny)
    start = model.inputs[0].new_zeros(())
    inputs = sum((one.T @ one for one in model.inputs), start=start) / tokens
    inputs.diagonal().add_(RIDGE * float(inputs.diagonal().mean()) or 1.0)
    return _Independent(units[:, :, None], inputs)


def _consumer(
    activation: Activation,
    weights: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
    damping: float,
) -> tuple[Float[Tensor, "out k"], list[Float[Tensor, "tokens out"]]]:
    """argmin over V of ‖t − a Vᵀ‖² plus a relative ridge on its change, and a Vᵀ of each batch."""
    width = v.shape[1]
    gram, cross = v.new_zeros(width, width), v.new_zeros(width, len(v))
    values = []
    for x, wanted in zip(inputs, targets, strict=True):
        value = activation([linear(x, one) for one in weights])
        add_upper_gram(gram, value)
        cross.addmm_(value.T, wanted)
        values.append(value)
    system = mirrored(gram).double()
    ridge = damping * (float(system.diagonal().mean()) or 1.0)
    system.diagonal().add_(ridge)
    right = cross.double() + ridge * v.T.double()
    found = torch.cholesky_solve(right, torch.linalg.cholesky(system)).T.float()
    return found, [linear(value, found) for value in values]
