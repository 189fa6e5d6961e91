"""Refit of an MLP's producers as well as its consumer: Gauss-Newton by conjugate gradients.

The kept units compute V·a(U₁x, U₂x, …) with an elementwise activation a. The consumer V alone has a
closed form. With V fixed, a change δ of the producers changes the output by V·Σₚ (∂a/∂uₚ ∘ δₚx),
which is linear in δ:

    min over δ of Σₜ ‖tₜ − yₜ − V·Σₚ (∂a/∂uₚ ∘ δₚxₜ)‖² + damping·⟨δ, P δ⟩

Here t is the dense sublayer's output for the same x, y the output of the kept units. P is the
normal matrix without the terms between different units, and with slopes and x taken as independent:
tokens · |vⱼ|² · E[(∂a/∂uₚⱼ)²] · E[x xᵀ]. P is also the preconditioner (Hestenes & Stiefel 1952), so
a few iterations suffice; early stopping acts as a further ridge. After the step V is refitted in
closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from numprune_export.core.halving import in_parts
from numprune_export.numerics.gram import add_upper_gram, mirrored, rounding
from numprune_export.numerics.held import Held, Seen
from numprune_export.numerics.least_squares import inverse, mean_ridge, ridge
from numprune_export.numerics.matmul_precision import multiplied
from numprune_export.numerics.ranks import summed, summed_number

Activation = Callable[[Sequence[Tensor]], Tensor]
"""Outputs of the producers, (tokens, k) each, to the consumer's input, (tokens, k)."""

CHUNK = 1024
"""Tokens whose intermediate values are in memory at once."""
PARTS = (1.0, 0.5, 0.25)
"""Fractions of a step; the first that lowers the error is taken: the linearisation holds only
nearby."""
TRIED = 4
"""Step fractions are tried on every TRIED-th chunk."""
FLOOR = 1e-3
"""Lower bound on a unit's entry in P, relative to the mean entry."""
ROUNDING = 1e-12
"""Iterations stop when the squared gradient in the metric of P falls below this fraction of the
first one: the rest is fp32 rounding."""
RIDGE = 0.01
"""Ridge on E[x xᵀ] in P, relative to the mean of its diagonal."""


class StepSettings(Protocol):
    """Settings of the producers' step."""

    @property
    def iterations(self) -> int:
        """Iterations of conjugate gradients."""
        ...

    @property
    def token_stride(self) -> int:
        """Producers are fitted to every n-th token."""
        ...

    @property
    def damping(self) -> float:
        """Ridge on the change, relative to its effect on the output."""
        ...


@dataclass(frozen=True)
class Sublayer:
    """A pruned MLP: the layers of its kept units."""

    activation: Activation
    """The elementwise part between producers and consumer."""
    producers: Sequence[nn.Linear]
    """(k, in) each, with or without a bias."""
    consumer: nn.Linear
    """(out, k), already refitted to the kept units; its bias does not change."""
    dense: Float[Tensor, "out k"]
    """The kept units' columns of the dense consumer's weight."""


@dataclass(frozen=True)
class Refitted:
    """New weights, fp32, and the sublayer's output with them."""

    producers: tuple[tuple[Float[Tensor, "k in"], Float[Tensor, " k"] | None], ...]
    """Weight and bias of each; None for a producer without a bias."""
    consumer: Float[Tensor, "out k"]
    outputs: Held
    """(tokens, out), one per batch."""
    error_before: float
    """Σ ‖t − y‖² over the tokens that producers are fitted to."""
    error_after: float


def refit(
    sublayer: Sublayer,
    inputs: Sequence[Float[Tensor, "tokens in"]],
    targets: Sequence[Float[Tensor, "tokens out"]],
    settings: StepSettings,
    *,
    token_stride: int,
    damping: float,
) -> Refitted:
    """One step of the producers, then the consumer's closed form. Without an error decrease no step
    is taken.

    Args:
        sublayer: The pruned MLP.
        inputs: x of each batch.
        targets: t of every `token_stride`-th token of each batch, the consumer's bias included.
        settings: Settings of the step; their stride is a multiple of `token_stride`.
        token_stride: The consumer is fitted to every n-th token.
        damping: Ridge on the consumer's change from the dense one, relative to the mean square of
            its inputs.
    """
    activation, producers, consumer = sublayer.activation, sublayer.producers, sublayer.consumer
    stride = settings.token_stride
    with torch.no_grad():
        bias, v = consumer.bias, consumer.weight.float()
        start = torch.stack([_whole(producer) for producer in producers])
        biased = producers[0].bias is not None
        xs = Seen(inputs, lambda x: (_with_one(x) if biased else x).to(multiplied()))
        ts = Seen(targets, lambda t: (t if bias is None else t - bias).float())

        fitted = _chunks(xs, stride), _chunks(ts, stride // token_stride)
        step, errors = _step(activation, start, v, *fitted, settings)
        tried, before = [chunks[::TRIED] for chunks in fitted], summed_number(sum(errors[::TRIED]))
        candidates = (start + part * step for part in PARTS)
        weights = next((w for w in candidates if _error(activation, w, v, *tried) < before), start)
        dense = sublayer.dense.float()
        refitted, outputs = _consumer(activation, weights, dense, xs, ts, token_stride, damping)
        pairs = zip(_chunks(outputs, stride), fitted[1], strict=True)
        after = sum(_squares(target - output) for output, target in pairs)
    if bias is not None:
        outputs = Held(output + bias.float() for output in outputs.drained())
    # Each in memory of its own: a checkpoint refuses views.
    parts = (
        (weight[:, :-1].clone(), weight[:, -1].clone()) if biased else (weight.clone(), None)
        for weight in weights
    )
    return Refitted(tuple(parts), refitted, outputs, sum(errors), after)


def _error(
    activation: Activation,
    weights: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
) -> float:
    parts, v = weights.to(inputs[0].dtype), v.to(inputs[0].dtype)
    pairs = zip(inputs, targets, strict=True)
    outputs = ((linear(activation([linear(x, part) for part in parts]), v), t) for x, t in pairs)
    return summed_number(sum(_squares(target - output) for output, target in outputs))


def _chunks(batches: Sequence[Float[Tensor, "tokens n"]], stride: int) -> tuple[Tensor, ...]:
    """Every `stride`-th row of each batch, in chunks of CHUNK rows."""
    few = [rows if stride == 1 else rows[::stride].clone() for rows in batches]
    return torch.split(torch.cat(few), CHUNK)


def _squares(error: Tensor) -> float:
    return float(error.double().square().sum())


def _with_one(x: Float[Tensor, "tokens in"]) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def _whole(linear: nn.Linear) -> Float[Tensor, "k in"]:
    """The weight in fp32, with the bias, if any, as its last column."""
    weight = linear.weight.float()
    return weight if linear.bias is None else torch.cat([weight, linear.bias.float()[:, None]], 1)


@dataclass(frozen=True)
class _Linearised:
    """The sublayer linearised at its present weights: J and its transpose, chunk by chunk.

    All values except the sums have the dtype of the inputs.
    """

    inputs: tuple[Float[Tensor, "tokens in"], ...]
    slopes: tuple[tuple[Float[Tensor, "tokens k"], ...], ...]
    """∂a/∂uₚ of each chunk and producer."""
    consumer: Float[Tensor, "out k"]

    def normal(self, change: Float[Tensor, "p k in"]) -> Float[Tensor, "p k in"]:
        """JᵀJ·δ, fp32."""
        total, parts = torch.zeros_like(change), change.to(self.consumer.dtype)
        for x, slopes in zip(self.inputs, self.slopes, strict=True):
            units = slopes[0] * linear(x, parts[0])
            for slope, part in zip(slopes[1:], parts[1:], strict=True):
                units.addcmul_(slope, linear(x, part))
            self._back(linear(units, self.consumer), x, slopes, total)
        return summed(total)

    def transposed(self, errors: Sequence[Tensor], like: Tensor) -> Float[Tensor, "p k in"]:
        """Jᵀ·y, fp32, for y given chunk by chunk, (tokens, out)."""
        total = torch.zeros_like(like)
        for error, x, slopes in zip(errors, self.inputs, self.slopes, strict=True):
            self._back(error, x, slopes, total)
        return summed(total)

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
    """δ, and each chunk's squared error before the step."""
    dtype = inputs[0].dtype
    parts, consumer = weights.to(dtype), v.to(dtype)
    slopes, errors, before = [], [], []
    for x, target in zip(inputs, targets, strict=True):
        value, slope = _slopes(activation, [linear(x, part) for part in parts])
        slopes.append(slope)
        error = target - linear(value, consumer)
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


def _values(activation: Activation, parts: Tensor, x: Tensor) -> Float[Tensor, "tokens k"]:
    """The activation at these weights, in parts if the device is full."""

    def run(rows: slice) -> Tensor:
        return activation([linear(x[rows], part) for part in parts])

    pieces = list(in_parts(len(x), run, "tokens"))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _slopes(
    activation: Activation, outputs: list[Tensor]
) -> tuple[Tensor, tuple[Float[Tensor, "tokens k"], ...]]:
    """The activation, and its derivative with respect to every producer's output."""
    with torch.enable_grad():
        leaves = [output.detach().requires_grad_() for output in outputs]
        value = activation(leaves)
        slopes = torch.autograd.grad(value.sum(), leaves)
    return value.detach(), slopes


@dataclass(frozen=True)
class _Independent:
    """P: one number per producer and unit, and one matrix of inputs for all of them."""

    units: Float[Tensor, "p k 1"]
    inputs: Float[Tensor, "in in"]


def _independent(model: _Linearised) -> _Independent:
    tokens = summed_number(sum(len(x) for x in model.inputs))
    parts = zip(*model.slopes, strict=True)
    start = model.inputs[0].new_zeros((), dtype=torch.float32)
    squares = torch.stack(
        [sum((slope.float().square().sum(0) for slope in part), start=start) for part in parts]
    )
    units = summed(squares) * model.consumer.float().square().sum(0)
    units = units + FLOOR * (units.mean(1, keepdim=True) + torch.finfo(units.dtype).tiny)
    wide = (x.float() for x in model.inputs)
    inputs = summed(sum((x.T @ x for x in wide), start=start)) / tokens
    inputs.diagonal().add_(RIDGE * float(inputs.diagonal().mean()) or 1.0)
    return _Independent(units[:, :, None], inputs)


def _consumer(
    activation: Activation,
    weights: Float[Tensor, "p k in"],
    dense: Float[Tensor, "out k"],
    inputs: Sequence[Float[Tensor, "tokens in"]],
    targets: Sequence[Float[Tensor, "fitted out"]],
    stride: int,
    damping: float,
) -> tuple[Float[Tensor, "out k"], Held]:
    """argmin over V of ‖t − a Vᵀ‖² plus a relative ridge on V − `dense`, over every `stride`-th
    token; and a Vᵀ for all tokens of each batch."""
    width = dense.shape[1]
    gram, cross = dense.new_zeros(width, width), dense.new_zeros(width, len(dense))
    parts, values = weights.to(inputs[0].dtype), Held()
    for x, target in zip(inputs, targets, strict=True):
        value = _values(activation, parts, x)
        fitted = value[::stride].float()
        add_upper_gram(gram, fitted)
        cross.addmm_(fitted.T, target)
        values.append(value)
    system = mirrored(summed(gram)).double()
    tokens = int(summed_number(sum(len(target) for target in targets)))
    consumer = ridge(
        system, summed(cross).T, dense, mean_ridge(system, damping), rounding=rounding(tokens)
    ).float()
    shortened = consumer.to(inputs[0].dtype)
    return consumer, Held(linear(value, shortened).float() for value in values.drained())
