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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from numprune_export.numerics.gram import add_upper_gram, mirrored, rounding
from numprune_export.numerics.least_squares import inverse, mean_ridge, ridge
from numprune_export.numerics.matmul_precision import multiplied

CHUNK = 1024
"""Tokens whose intermediate values are alive at once."""
PARTS = (1.0, 0.5, 0.25)
"""Of a step, the first that lets the error fall is taken: the sublayer is linear only near by."""
TRIED = 4
"""Steps are tried on one chunk in so many."""
FLOOR = 1e-3
"""Units count at least by so much of the mean one in P."""
ROUNDING = 1e-12
"""Of the squared gradient in the metric of P, what is left is fp32's."""
RIDGE = 0.01
"""On E[x xᵀ] in P, relative to the mean of its diagonal."""


class StepSettings(Protocol):
    """How the step is found."""

    @property
    def iterations(self) -> int:
        """Of conjugate gradients."""
        ...

    @property
    def token_stride(self) -> int:
        """Producers are fitted to every n-th token."""
        ...

    @property
    def damping(self) -> float:
        """Ridge on the change, relative to what it makes of the output."""
        ...


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
    dense: Float[Tensor, "out k"],
    inputs: Sequence[Float[Tensor, "tokens in"]],
    targets: Sequence[Float[Tensor, "tokens out"]],
    settings: StepSettings,
    *,
    every: int,
    damping: float,
) -> Refitted:
    """One step, and the consumer's closed form after it; no step where the error does not fall by it.

    Args:
        activation: What is between producers and consumer, elementwise.
        producers: Of the kept units, with or without a bias.
        consumer: As refitted to them; its bias stays.
        dense: What its weight was before, of the kept units.
        inputs: x of each batch.
        targets: t of one token in `every` of each batch, the consumer's bias with them.
        settings: Of the step.
        every: Tokens, one in so many, that the consumer is fitted to.
        damping: Ridge on the consumer's change from the dense one, relative to the mean of its inputs'
            squares.
    """
    with torch.no_grad():
        bias, v = consumer.bias, consumer.weight.float()
        start = torch.stack([_whole(one) for one in producers])
        xs = inputs if producers[0].bias is None else [_with_one(one) for one in inputs]
        xs = [one.to(multiplied()) for one in xs]
        ts = [(one if bias is None else one - bias).float() for one in targets]

        some = _chunks(xs, settings.token_stride), _chunks(ts, settings.token_stride // every)
        step, errors = _step(activation, start, v, *some, settings)
        tried, before = [one[::TRIED] for one in some], sum(errors[::TRIED])
        shorter = (start + part * step for part in PARTS)
        weights = next(
            (one for one in shorter if _error(activation, one, v, *tried) < before), start
        )
        found, outputs = _consumer(activation, weights, dense.float(), xs, ts, every, damping)
        made = _chunks(outputs, settings.token_stride)
        after = sum(_squares(wanted - one) for one, wanted in zip(made, some[1], strict=True))
    if bias is not None:
        outputs = [one + bias.float() for one in outputs]
    biased = producers[0].bias is not None
    # Each in memory of its own, as a checkpoint needs it.
    parts = (
        (one[:, :-1].clone(), one[:, -1].clone()) if biased else (one.clone(), None)
        for one in weights
    )
    return Refitted(tuple(parts), found, outputs, sum(errors), after)


def _error(
    activation: Activation,
    weights: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
) -> float:
    parts, v = weights.to(inputs[0].dtype), v.to(inputs[0].dtype)
    pairs = zip(inputs, targets, strict=True)
    made = ((linear(activation([linear(x, one) for one in parts]), v), t) for x, t in pairs)
    return sum(_squares(wanted - output) for output, wanted in made)


def _chunks(rows: Sequence[Float[Tensor, "tokens n"]], every: int) -> tuple[Tensor, ...]:
    """One row of each batch in so many, a CHUNK at a time."""
    return torch.split(torch.cat([one[::every] for one in rows]), CHUNK)


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
    """The sublayer around its present weights: J and its transpose, a chunk of tokens at a time.

    All but the sums is in the dtype of the inputs.
    """

    inputs: tuple[Float[Tensor, "tokens in"], ...]
    slopes: tuple[tuple[Float[Tensor, "tokens k"], ...], ...]
    """∂a/∂uₚ of each chunk and producer."""
    consumer: Float[Tensor, "out k"]

    def normal(self, change: Float[Tensor, "p k in"]) -> Float[Tensor, "p k in"]:
        """JᵀJ·δ, fp32."""
        found, parts = torch.zeros_like(change), change.to(self.consumer.dtype)
        for x, slopes in zip(self.inputs, self.slopes, strict=True):
            units = slopes[0] * linear(x, parts[0])
            for slope, part in zip(slopes[1:], parts[1:], strict=True):
                units.addcmul_(slope, linear(x, part))
            self._back(linear(units, self.consumer), x, slopes, found)
        return found

    def transposed(self, errors: Sequence[Tensor], like: Tensor) -> Float[Tensor, "p k in"]:
        """Jᵀ·y, y of each chunk, (tokens, out); fp32."""
        found = torch.zeros_like(like)
        for error, x, slopes in zip(errors, self.inputs, self.slopes, strict=True):
            self._back(error, x, slopes, found)
        return found

    def _back(self, error: Tensor, x: Tensor, slopes: Sequence[Tensor], into: Tensor) -> None:
        units = error @ self.consumer
        for slope, part in zip(slopes, into, strict=True):
            part.add_((slope * units).T @ x)


def _step(
    activation: Activation,
    weights: Float[Tensor, "p k in"],
    v: Float[Tensor, "out k"],
    inputs: Sequence[Float[Tensor, "tokens in"]],
    targets: Sequence[Float[Tensor, "tokens out"]],
    settings: StepSettings,
) -> tuple[Float[Tensor, "p k in"], list[float]]:
    """δ, and each chunk's squared error before it."""
    dtype = inputs[0].dtype
    parts, consumer = weights.to(dtype), v.to(dtype)
    slopes, errors, before = [], [], []
    for x, wanted in zip(inputs, targets, strict=True):
        value, slope = _slopes(activation, [linear(x, one) for one in parts])
        slopes.append(slope)
        error = wanted - linear(value, consumer)
        errors.append(error.to(dtype))
        before.append(_squares(error))
    model = _Linearised(tuple(inputs), tuple(slopes), consumer)
    curvature = _independent(model)
    inverted = inverse(curvature.inputs.double()).float()

    change, left = torch.zeros_like(weights), model.transposed(errors, weights)
    ahead = direction = left @ inverted / curvature.units
    size = first = float((left * ahead).double().sum())
    for _ in range(settings.iterations):
        if not size > ROUNDING * first:
            break
        bent = model.normal(direction)
        bent += settings.damping * curvature.units * (direction @ curvature.inputs)
        length = size / float((direction * bent).double().sum())
        change = change + length * direction
        left = left - length * bent
        ahead = left @ inverted / curvature.units
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
    start = model.inputs[0].new_zeros((), dtype=torch.float32)
    squares = torch.stack(
        [sum((one.float().square().sum(0) for one in part), start=start) for part in parts]
    )
    units = squares * model.consumer.float().square().sum(0)
    units = units + FLOOR * (units.mean(1, keepdim=True) + torch.finfo(units.dtype).tiny)
    wide = (one.float() for one in model.inputs)
    inputs = sum((one.T @ one for one in wide), start=start) / tokens
    inputs.diagonal().add_(RIDGE * float(inputs.diagonal().mean()) or 1.0)
    return _Independent(units[:, :, None], inputs)


def _consumer(
    activation: Activation,
    weights: Float[Tensor, "p k in"],
    dense: Float[Tensor, "out k"],
    inputs: Sequence[Float[Tensor, "tokens in"]],
    targets: Sequence[Float[Tensor, "fitted out"]],
    every: int,
    damping: float,
) -> tuple[Float[Tensor, "out k"], list[Float[Tensor, "tokens out"]]]:
    """argmin over V of ‖t − a Vᵀ‖² plus a relative ridge on V − `dense`, over one token in so many, and
    a Vᵀ of all of each batch."""
    width = dense.shape[1]
    gram, cross = dense.new_zeros(width, width), dense.new_zeros(width, len(dense))
    parts, values = weights.to(inputs[0].dtype), []
    for x, wanted in zip(inputs, targets, strict=True):
        value = activation([linear(x, one) for one in parts])
        fitted = value[::every].float()
        add_upper_gram(gram, fitted)
        cross.addmm_(fitted.T, wanted)
        values.append(value)
    system = mirrored(gram).double()
    tokens = sum(len(wanted) for wanted in targets)
    found = ridge(
        system, cross.T, dense, mean_ridge(system, damping), rounding=rounding(tokens)
    ).float()
    values.reverse()
    last = found.to(inputs[0].dtype)
    return found, [linear(values.pop(), last).float() for _ in inputs]


Activation = Callable[[Sequence[Tensor]], Tensor]
"""Outputs of the producers, (tokens, k) each, to the consumer's input, (tokens, k)."""
