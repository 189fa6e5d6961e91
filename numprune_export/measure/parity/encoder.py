"""Parity of two encoder runners, on full and on padded batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metric, Metrics
from numprune_export.export.encoder import Task
from numprune_export.export.runner import EncoderRunner, Logits, Tokens
from numprune_export.measure.parity.tally import Tally

_ROWS = 3
_FEWEST_TOKENS = 4


@dataclass(frozen=True)
class EncoderParity:
    """Differences between a candidate and its reference over all compared answers.

    An answer is a distribution over classes (of a text or of a token) or over the tokens of a text
    (start or end of a span). A regression output is no distribution: only errors are compared.
    """

    max_abs_error: float
    """Largest absolute difference of a logit; infinite if either side returned NaN or infinity."""
    mean_abs_error: float
    """Mean over answers of the mean absolute difference of their logits."""
    worst: str
    """Location of the largest difference: shape, row, answer."""
    kl_mean: float | None
    """KL(reference || candidate), nats per answer; None for a regression."""
    top1_agreement: float | None
    """Fraction of answers with the same top-ranked class or token; None for a regression."""
    answers: int
    finite: bool
    """False if any logit of either side was NaN or infinite."""

    @property
    def compared(self) -> int:
        return self.answers

    def metrics(self, prefix: str, conditions: Mapping[str, Any] | None = None) -> Metrics:
        """Metrics `<prefix>.max_abs_error` and `.mean_abs_error`, and for distributions also
        `.kl_mean` and `.top1_agreement`."""
        where = dict(conditions or {})
        values: dict[str, tuple[float | None, str, dict[str, Any]]] = {
            "max_abs_error": (self.max_abs_error, "logit", {**where, "worst": self.worst}),
            "mean_abs_error": (self.mean_abs_error, "logit", where),
            "kl_mean": (self.kl_mean, "nats", where),
            "top1_agreement": (self.top1_agreement, "fraction", where),
        }
        return {
            f"{prefix}.{name}": Metric(value, unit, self.answers, conditions=under)
            for name, (value, unit, under) in values.items()
            if value is not None
        }


@dataclass(frozen=True)
class Texts:
    """A compared batch; see EncoderRunner.forward."""

    name: str
    tokens: Tokens
    lengths: Tokens | None = None
    types: Tokens | None = None


def compare(
    reference: EncoderRunner,
    candidate: EncoderRunner,
    tokens: Tokens,
    task: Task,
    *,
    types: Tokens | None = None,
    shapes: Sequence[tuple[int, int]] = (),
) -> EncoderParity:
    """Run both on the same batches and compare every answer at real tokens.

    Args:
        reference: An open runner, usually PyTorch.
        candidate: An open runner.
        tokens: Token ids of real text, (3, length), without padding.
        task: The task of the model's head.
        types: Token type ids of text pairs, (3, length); None: all 0.
        shapes: (batch, length) of more batches; the text is repeated if it is shorter.

    Raises:
        InputError: `tokens` does not have three rows of at least four tokens.
    """
    tally, distributions = Tally(), True
    for texts in batches(tokens, types, shapes):
        expected = reference.forward(texts.tokens, texts.lengths, texts.types)
        got = candidate.forward(texts.tokens, texts.lengths, texts.types)
        distributions = task != "sequence" or expected.shape[-1] > 1
        _add(tally, texts, task, expected, got)
    return EncoderParity(
        max_abs_error=tally.error,
        mean_abs_error=tally.differences / tally.positions,
        worst=tally.worst,
        kl_mean=tally.nats / tally.positions if distributions else None,
        top1_agreement=tally.agreeing / tally.positions if distributions else None,
        answers=tally.positions,
        finite=tally.finite,
    )


def batches(
    tokens: Tokens, types: Tokens | None, shapes: Sequence[tuple[int, int]] = ()
) -> Iterator[Texts]:
    """Batches that `compare` runs: 1 text, 3 texts, 3 of different lengths, 1 token, `shapes`."""
    if tokens.ndim != 2 or tokens.shape[0] != _ROWS or tokens.shape[1] < _FEWEST_TOKENS:
        raise InputError(
            f"parity tokens of shape `{tokens.shape}` are not {_ROWS} rows of at least"
            f" {_FEWEST_TOKENS} tokens",
            hint="give more text",
        )
    length = tokens.shape[1]
    # The first row is not the longest, to catch a runner that uses its length for all rows. No row
    # is as long as the batch is wide, to catch a runner that uses the width as length.
    lengths = np.array([length // 2, length - 1, length // 4 + 1], np.int64)
    shorter = length - 1
    yield Texts("batch 1", tokens[:1], None, None if types is None else types[:1])
    yield Texts("batch 3", tokens[:, :shorter], None, None if types is None else types[:, :shorter])
    yield Texts("padded batch 3", tokens, lengths, types)
    yield Texts("one token", tokens[:1, :1], None, None if types is None else types[:1, :1])
    for rows, width in shapes:
        yield Texts(f"{rows} x {width}", np.resize(tokens, (rows, width)))


def _add(tally: Tally, texts: Texts, task: Task, expected: Logits, got: Logits) -> None:
    if task == "sequence":
        tally.compare(texts.name, expected, got, "row")
        return
    batch, length = texts.tokens.shape
    ends = np.full(batch, length) if texts.lengths is None else texts.lengths
    for row, end in enumerate(ends):
        wanted, actual = expected[row, :end], got[row, :end]
        if task == "span":
            # A span head's distributions are over tokens.
            tally.compare(f"{texts.name}, row {row}", wanted.T, actual.T, "start or end")
        else:
            tally.compare(f"{texts.name}, row {row}", wanted, actual, "token")
