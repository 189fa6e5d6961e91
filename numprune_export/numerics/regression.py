"""Moments for regressing a target on a consumer's input, accumulated over batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from numprune_export.core.errors import NumericalError
from numprune_export.numerics.gram import add_upper_gram, mirrored, shift_of, shifted

CHUNK = 4096
"""Tokens per matmul: adding its result to the fp64 sums costs the same for any number of tokens."""


@dataclass(frozen=True)
class Moments:
    """Sums over tokens of the consumer's input h (n,) and its target b (out,), all fp64.

    b is the target of W·h: the teacher's sum of sublayer and residual, minus the student's residual
    and its consumer's bias. So it includes the drift of the residual stream.
    """

    gram: Float[Tensor, "n n"]
    """Σ h·hᵀ."""
    cross: Float[Tensor, "out n"]
    """Σ b·hᵀ."""
    inputs: Float[Tensor, " n"]
    """Σ h."""
    targets: Float[Tensor, " out"]
    """Σ b."""
    energy: float
    """Σ ‖b‖²."""
    tokens: int

    def error(self, weight: Float[Tensor, "out n"], shift: Tensor | float = 0.0) -> float:
        """Σ ‖W·h + shift − b‖² over the tokens, relative to Σ ‖b‖²; 0 if Σ ‖b‖² is 0."""
        wide = weight.double()
        shift = self.targets.new_zeros(len(self.targets)) + shift
        squared = ((wide @ self.gram) * wide).sum() - 2 * (wide * self.cross).sum()
        squared += 2 * shift @ (wide @ self.inputs - self.targets)
        squared += self.tokens * shift.square().sum()
        # Rounding may make the error of a perfect fit negative.
        return max(0.0, float(squared) / self.energy + 1) if self.energy else 0.0

    def beside(self, weight: Float[Tensor, "out n"]) -> Moments:
        """The moments of b + W·h, given these moments of b.

        So only the difference between target and W·h is accumulated; W·h is never computed per
        token.
        """
        wide = weight.double()
        product = wide @ self.gram
        energy = self.energy + float(((2 * self.cross + product) * wide).sum())
        return replace(
            self,
            cross=self.cross + product,
            targets=self.targets + wide @ self.inputs,
            energy=max(0.0, energy),
        )


class MomentSums:
    """Accumulates moments: matmuls over about `CHUNK` tokens in fp32, their sums in fp64.

    Sums are over h − s and b − s', with s and s' the means of the first chunk, until `result`.
    """

    def __init__(self, out: int, width: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._gram, self._cross = zeros(width, width), zeros(out, width)
        self._inputs, self._targets = zeros(width), zeros(out)
        self._energy, self._tokens = 0.0, 0
        self._shifts: tuple[Tensor, Tensor] = zeros(width).float(), zeros(out).float()
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, inputs: Float[Tensor, "tokens n"], targets: Float[Tensor, "tokens out"]) -> None:
        self._waiting.append((inputs.float(), targets.float()))
        if sum(len(h) for h, _ in self._waiting) >= CHUNK:
            self._sum()

    def _sum(self) -> None:
        if not self._waiting:
            return
        h, b = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        if not self._tokens and len(h):
            self._shifts = shift_of(h), shift_of(b)
        h, b = (shifted(rows, shift) for rows, shift in zip((h, b), self._shifts, strict=True))
        product = h.new_zeros(len(self._gram), len(self._gram))
        add_upper_gram(product, h)
        self._gram += product
        self._cross += b.T @ h
        self._inputs += h.sum(0, dtype=torch.float64)
        self._targets += b.sum(0, dtype=torch.float64)
        self._energy += float(b.double().square().sum())
        self._tokens += len(h)

    def result(self, site: str) -> Moments:
        """The moments of all tokens so far.

        Raises:
            NumericalError: an activation was NaN or infinite.
        """
        self._sum()
        if not bool(torch.isfinite(self._gram).all() and torch.isfinite(self._cross).all()):
            raise NumericalError(
                f"activations at `{site}` are not finite",
                hint="check the checkpoint, or prune it in `dtype: float32`",
            )
        h, b = (shift.double() for shift in self._shifts)
        inputs, targets = self._inputs + self._tokens * h, self._targets + self._tokens * b
        gram = mirrored(self._gram.clone()).addr_(self._inputs, h).addr_(h, inputs)
        cross = self._cross.addr(self._targets, h).addr_(b, inputs)
        energy = self._energy + float(b @ (self._targets + targets))
        return Moments(gram, cross, inputs, targets, energy, self._tokens)
