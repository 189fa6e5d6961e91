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

from numprune_export.between import Activation
from numprune_export.strict import Strict

CHUNK = 1024
"""Tokens whose intermediate values are alive at once."""
FLOOR = 1e-3
"""Units count at least by so much of the mean one in P."""
ROUNDING = 1e-12
"""Of the squared gradient in the metric of P, what is left is fp32's."""
RIDGE = 0.01
"""On E[x xᵀ] in P, relative to the mean of its diagonal."""


class ProducerRefit(Strict):
    """How the layers before the activation are refitted."""

    iterations: PositiveInt = 3
    """Of conjugate gradients."""
    every: PositiveInt = 3
    """Fitted to one batch of calibration texts in so many."""
    damping: PositiveFloat = 0.01
    """Ridge on the change, relative to what it makes of the output."""


@dataclass(frozen=True)
class Refitted:
    """New weights, fp32."""

    producers: tuple[tuple[Float[Tensor, "k in"], Float[Tensor, " k"] | None], ...]
    """Weight and bias of each; a bias where there was one."""
    consumer: Float[Tensor, "out k"]
    error_before: float
    """Σ ‖t − y‖² over the tokens it was fitted to."""
    error_after: float


def refit(
    activation: Activation,
    producers: Sequence[nn.Linear],
    consumer: nn.Linear,
    inputs: Float[Tensor, "tokens in"],
    targets: Float[Tensor, "tokens out"],
    settings: ProducerRefit,
    damping: float,
) -> Refitted | None:
    """One step, and the consumer's closed form after it; None where the error would not fall.

    Args:
        activation: What is between producers and consumer, elementwise.
        producers: Of the kept units, with or without a bias.
        consumer: As refitted to them; its bias stays.
        inputs: x.
        targets: t, the consumer's bias with them.
        settings: Of the step.
        damping: Ridge on the change of the consumer, relative to the mean of its inputs' squares.
    """
    with torch.no_grad():
        biased = producers[0].bias is not None
        x = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1) if biased else inputs
        x, weights = x.float(), torch.stack([_whole(one) for one in producers])
        t = targets.float() if consumer.bias is None else targets.float() - consumer.bias.float()
        v = consumer.weight.float()

        step, before = _step(activation, weights, v, x, t, settings)
        moved = weights + step
        v, after = _consumer(activation, moved, v, x, t, damping)
    if not after < before:
        return None
    parts = ((one[:, :-1], one[:, -1]) if biased else (one, None) for one in moved)
    return Refitted(tuple(parts), v, before, after)


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
            units = slopes[0] * (x @ change[0].T)
            for slope, part in zip(slopes[1:], change[1:], strict=True):
                units.addcmul_(slope, x @ part.T)
            self._back(units @ self.consumer.T, x, slopes, found)
        return found

    def transposed(self, errors: Sequence[Tensor], like: Tensor) -> Float[Tensor, "p k in"]:
        """Jᵀ·y, y of each chunk, (tokens, out)."""
        found = torch.zeros_like(like)
        for error, x, slopes in zip(errors, self.inputs, self.slopes, strict=True):
            self._back(error, x, slopes, found)
        return found

    def _back(self, error: Tensor, x: Tensor, slopes: Sequence[Tensor], into: Tensor) -> None:
        units = error @ self.consumer
        for slope, part in zip(slopes, into, strict=True):
            part.addmm_((slope * units).T, x)


def _step(
    activation: Activation,
    weights: Tensor,
    v: Tensor,
    x: Tensor,
    t: Tensor,
    settings: ProducerRefit,
) -> tuple[Float[Tensor, "p k in"], float]:
    """δ, and the error before it."""
    chunks, slopes, errors, before = torch.split(x, CHUNK), [], [], 0.0
    for part, wanted in zip(chunks, torch.split(t, CHUNK), strict=True):
        value, slope = _slopes(activation, [part @ one.T for one in weights])
        slopes.append(slope)
        errors.append(wanted - value @ v.T)
        before += float(errors[-1].double().square().sum())
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
    activation: Activation, weights: Tensor, v: Tensor, x: Tensor, t: Tensor, damping: float
) -> tuple[Float[Tensor, "out k"], float]:
    """argmin over V of ‖t − a Vᵀ‖² plus a relative ridge on its change, and the error it leaves."""
    width = v.shape[1]
    gram, cross = v.new_zeros(width, width), v.new_zeros(width, len(v))
    kept = []
    for part, wanted in zip(torch.split(x, CHUNK), torch.split(t, CHUNK), strict=True):
        value = activation([part @ one.T for one in weights])
        error = wanted - value @ v.T
        gram.addmm_(value.T, value)
        cross.addmm_(value.T, error)
        kept.append((value, error))
    system = gram.double()
    system.diagonal().add_(damping * (float(system.diagonal().mean()) or 1.0))
    change = torch.cholesky_solve(cross.double(), torch.linalg.cholesky(system)).float()
    left = sum(float((error - value @ change).double().square().sum()) for value, error in kept)
    return v + change.T, left
