"""Parity of two decoder runners: logits, distributions and greedy text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from numprune_export.core.errors import InputError, ParityError
from numprune_export.core.metric import Metric, Metrics
from numprune_export.export.runner import DecoderRunner, Logits, Tokens
from numprune_export.measure.parity.tally import Tally

_ROWS = 3

SHAPE_STEPS = 2
"""Decode steps compared after the prompt of a compiled shape."""


@dataclass(frozen=True)
class Parity:
    """Differences between a candidate and its reference over all compared positions."""

    max_abs_error: float
    """Largest absolute difference of a logit; infinite if either side returned NaN or infinity."""
    worst: str
    """Location of the largest difference: prompt shape, step, row."""
    kl_mean: float
    """KL(reference || candidate), nats per position."""
    top1_agreement: float
    """Fraction of positions with the same top-ranked token."""
    greedy_match: float
    """Fraction of greedily generated tokens before the first difference of their row."""
    positions: int
    greedy_tokens: int
    finite: bool
    """False if any logit of either side was NaN or infinite."""

    @property
    def compared(self) -> int:
        return self.positions

    def metrics(self, prefix: str, conditions: Mapping[str, Any] | None = None) -> Metrics:
        """Metrics `<prefix>.max_abs_error`, `.kl_mean`, `.top1_agreement` and `.greedy_match`."""
        where = dict(conditions or {})
        error = Metric(
            self.max_abs_error, "logit", self.positions, conditions={**where, "worst": self.worst}
        )
        return {
            f"{prefix}.max_abs_error": error,
            f"{prefix}.kl_mean": Metric(self.kl_mean, "nats", self.positions, conditions=where),
            f"{prefix}.top1_agreement": Metric(
                self.top1_agreement, "fraction", self.positions, conditions=where
            ),
            f"{prefix}.greedy_match": Metric(
                self.greedy_match, "fraction", self.greedy_tokens, conditions=where
            ),
        }


@dataclass(frozen=True)
class Prompt:
    """Right-padded rows (batch, length), their lengths, and the next tokens (batch, steps)."""

    name: str
    tokens: Tokens
    lengths: Tokens | None
    continuation: Tokens

    @property
    def ends(self) -> Tokens:
        """Real tokens of each row."""
        batch, length = self.tokens.shape
        return np.full(batch, length) if self.lengths is None else self.lengths


@dataclass(frozen=True)
class Shape:
    """A prompt shape that a target was compiled for, compared in addition to the fixed ones."""

    name: str
    batch: int
    length: int


def compare(
    reference: DecoderRunner,
    candidate: DecoderRunner,
    tokens: Tokens,
    *,
    steps: int = 32,
    shapes: Sequence[Shape] = (),
) -> Parity:
    """Run both on the same prompts: prefill, teacher-forced decoding, greedy decoding.

    Prompt shapes: one row, three rows, three rows of different lengths, one row of one token.
    Each is compared at every prompt position, after each of `steps` forced tokens, at the last
    prompt position alone (a separate path in most runtimes), and over `steps` greedy tokens.

    Args:
        reference: An open runner, usually PyTorch.
        candidate: An open runner with capacity for a row of `tokens`.
        tokens: Token ids of real text, (3, prompt length + steps).
        steps: Tokens decoded after each prompt.
        shapes: Compared at the last prompt position and after each of `SHAPE_STEPS` tokens; the
            text is repeated if it is shorter.

    Raises:
        InputError: `tokens` does not have three rows, or its prompts are shorter than four tokens.
    """
    asked = tuple(prompts(tokens, steps))
    got = {prompt.name: greedy(candidate, prompt.tokens, prompt.lengths, steps) for prompt in asked}
    compiled = tuple(shaped(shape, tokens) for shape in shapes)
    return tallied(_Stepwise(reference, steps), candidate, asked, got, compiled)


class Expected(Protocol):
    """What the reference returns for prompts."""

    def forced(self, prompt: Prompt, *, all_positions: bool) -> tuple[Logits, Iterator[Logits]]:
        """Logits of the prompt, at every position (batch, length, vocabulary) or after it (batch,
        vocabulary), and those after each token of its continuation."""
        ...

    def greedy(self, prompt: Prompt) -> tuple[Logits, Tokens]:
        """As the function `greedy`; tokens of a row count up to the first that differs from the
        candidate's."""
        ...


@dataclass(frozen=True)
class _Stepwise:
    """See Expected: of a runner that decodes token by token."""

    runner: DecoderRunner
    steps: int

    def forced(self, prompt: Prompt, *, all_positions: bool) -> tuple[Logits, Iterator[Logits]]:
        first = self.runner.prefill(prompt.tokens, prompt.lengths, all_positions=all_positions)
        steps = (np.ascontiguousarray(tokens) for tokens in prompt.continuation.T)
        return first, map(self.runner.decode, steps)

    def greedy(self, prompt: Prompt) -> tuple[Logits, Tokens]:
        return greedy(self.runner, prompt.tokens, prompt.lengths, self.steps)


def tallied(
    expected: Expected,
    candidate: DecoderRunner,
    asked: Sequence[Prompt],
    got: Mapping[str, tuple[Logits, Tokens]],
    compiled: Sequence[Prompt],
) -> Parity:
    """Parity over all prompts.

    Args:
        expected: Of the reference.
        candidate: The runner.
        asked: Compared at every position, and greedily.
        got: Greedy results of the candidate by the prompt's name.
        compiled: Compared at their last position and after it.
    """
    tally = _Tally()
    for prompt in asked:
        _compare_forced(tally, expected, candidate, prompt)
        first, chosen = expected.greedy(prompt)
        where = f"{prompt.name}, prefill of the last position alone"
        tally.compare(where, first, got[prompt.name][0], "row")
        tally.add_greedy(chosen, got[prompt.name][1])
    for prompt in compiled:
        logits, steps = expected.forced(prompt, all_positions=False)
        tally.compare(f"{prompt.name}, prefill", logits, candidate.prefill(prompt.tokens), "row")
        _compare_steps(tally, steps, candidate, prompt)
    return tally.parity()


class Compared(Protocol):
    """Input of `check`: the parity of a decoder or of an encoder."""

    @property
    def max_abs_error(self) -> float: ...
    @property
    def worst(self) -> str: ...
    @property
    def finite(self) -> bool: ...


def check(parity: Compared, tolerance: float, *, name: str) -> None:
    """Check that every logit of the candidate `name` is finite and within `tolerance`.

    Raises:
        ParityError: a logit is not; the message names its location.
    """
    if not parity.finite:
        raise ParityError(
            f"`{name}` or its PyTorch reference returned NaN or infinity at {parity.worst}",
            hint="check the weights for overflow, or export with a wider dtype",
        )
    if not parity.max_abs_error <= tolerance:
        raise ParityError(
            f"`{name}` disagrees with PyTorch: max abs error `{parity.max_abs_error:.1e}` at"
            f" {parity.worst}, tolerance {tolerance:.1e}",
            hint="export with another graph or a wider dtype, or raise the tolerance",
        )


def prompts(tokens: Tokens, steps: int) -> Iterator[Prompt]:
    """The prompts that `compare` runs, cut from `tokens` (3, prompt length + steps)."""
    length = tokens.shape[1] - steps if tokens.ndim == 2 else 0
    if length < 4 or tokens.shape[0] != _ROWS:
        raise InputError(
            f"parity tokens of shape `{tokens.shape}` are not {_ROWS} rows of at least"
            f" {4 + steps} tokens",
            hint="give more text",
        )
    # The first row is not the longest, to catch a runner that uses its length for all rows.
    lengths = np.array([length // 2, length, length // 4 + 1], np.int64)
    uneven = np.stack([row[n : n + steps] for row, n in zip(tokens, lengths, strict=True)])
    padded = np.where(np.arange(length) < lengths[:, None], tokens[:, :length], 0)
    yield Prompt("batch 1", tokens[:1, :length], None, tokens[:1, length:])
    yield Prompt("batch 3", tokens[:, : length - 1], None, tokens[:, length - 1 : -1])
    yield Prompt("padded batch 3", padded, lengths, uneven)
    yield Prompt("one token", tokens[:1, :1], None, tokens[:1, 1 : steps + 1])


def greedy(
    runner: DecoderRunner, tokens: Tokens, lengths: Tokens | None, steps: int
) -> tuple[Logits, Tokens]:
    """Decode greedily.

    Returns:
        The logits after the prompt, (batch, vocabulary), and the generated tokens, (batch, steps).
    """
    first = runner.prefill(tokens, lengths)
    chosen = [first.argmax(axis=1)]
    while len(chosen) < steps:
        chosen.append(runner.decode(chosen[-1]).argmax(axis=1))
    return first, np.stack(chosen, axis=1)


def _compare_forced(
    tally: _Tally, expected: Expected, candidate: DecoderRunner, prompt: Prompt
) -> None:
    logits, steps = expected.forced(prompt, all_positions=True)
    got = candidate.prefill(prompt.tokens, prompt.lengths, all_positions=True)
    for row, end in enumerate(prompt.ends):
        where = f"{prompt.name}, prefill, row {row}"
        tally.compare(where, logits[row, :end], got[row, :end], "position")
    _compare_steps(tally, steps, candidate, prompt)


def _compare_steps(
    tally: _Tally, expected: Iterator[Logits], candidate: DecoderRunner, prompt: Prompt
) -> None:
    for step, (logits, tokens) in enumerate(zip(expected, prompt.continuation.T, strict=True)):
        got = candidate.decode(np.ascontiguousarray(tokens))
        tally.compare(f"{prompt.name}, decode step {step + 1}", logits, got, "row")


def shaped(shape: Shape, tokens: Tokens) -> Prompt:
    """A prompt of a compiled shape; the text is repeated if it is shorter."""
    rows = np.resize(tokens, (shape.batch, shape.length + SHAPE_STEPS))
    prompt = np.ascontiguousarray(rows[:, : shape.length])
    name = f"{shape.name}, {shape.batch} x {shape.length}"
    return Prompt(name, prompt, None, rows[:, shape.length :])


class _Tally(Tally):
    """Tally that also counts agreeing greedy tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.greedy_agreeing = self.greedy_tokens = 0

    def add_greedy(self, expected: Tokens, got: Tokens) -> None:
        """Add greedy tokens of both runners, (batch, steps) each."""
        same = np.cumprod(expected == got, axis=1)
        self.greedy_agreeing += int(same.sum())
        self.greedy_tokens += same.size

    def parity(self) -> Parity:
        return Parity(
            max_abs_error=self.error,
            worst=self.worst,
            kl_mean=self.nats / self.positions,
            top1_agreement=self.agreeing / self.positions,
            greedy_match=self.greedy_agreeing / self.greedy_tokens,
            positions=self.positions,
            greedy_tokens=self.greedy_tokens,
            finite=self.finite,
        )
