"""Token perplexity of a causal language model on held-out text."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from numprune_export.core.errors import InputError, NumericalError
from numprune_export.core.halving import in_parts
from numprune_export.core.metric import Metric
from numprune_export.export.runner import DecoderRunner, Logits, Tokens
from numprune_export.measure.reference.streamed import StreamedLm
from numprune_export.numerics.divergence import Float64, log_probabilities

_POSITIONS_AT_ONCE = 64  # fp64 log-probabilities of 25 MB at a vocabulary of 49,152
Z95 = 1.959963984540054  # normal quantile of a two-sided 95 % interval


def perplexity(
    runner: DecoderRunner | StreamedLm,
    windows: Tokens,
    *,
    batch: int,
    conditions: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Metric:
    """exp of the mean negative log-likelihood per token, over non-overlapping windows.

    Each window starts with an empty context, so its first token is not scored.

    Args:
        runner: An open model; a streamed one reads each block once for all windows.
        windows: Token ids, (windows, tokens per window), at least two tokens each.
        batch: Windows per forward pass.
        conditions: Further conditions of the metric: dtype, runtime, corpus.
        progress: Called with the number of windows just done.

    Returns:
        Perplexity per token. `samples` counts scored tokens. `low` and `high` are a 95 % normal
        interval of the mean over windows, mapped through exp; absent with a single window.
        Infinite if exp of the mean overflows (above 709 nats).

    Raises:
        InputError: there is no window, or windows have fewer than two tokens.
        NumericalError: the model returns NaN or infinite logits.
    """
    nats = window_nats(runner, windows, batch=batch, progress=progress)
    under = {"tokens_per_window": windows.shape[1], "batch": batch, **(conditions or {})}
    return of_windows(nats, windows.shape[1], under)


def window_nats(
    runner: DecoderRunner | StreamedLm,
    windows: Tokens,
    *,
    batch: int,
    progress: Callable[[int], None] | None = None,
) -> Float64:
    """Mean negative log-likelihood per token of each window, (windows,); see `perplexity`."""
    if windows.ndim != 2 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise InputError(
            f"token windows of shape `{windows.shape}` hold no token to score",
            hint="give more text, or shorter windows",
        )
    nats = np.empty(len(windows))
    for start, logits in _logits_of(runner, windows, batch, progress or _silent):
        rows = windows[start : start + len(logits)]
        for offset, row in enumerate(rows):
            nats[start + offset] = _mean_nats(logits[offset], row[1:], start + offset)
        if progress is not None and not isinstance(runner, StreamedLm):
            progress(len(rows))
    return nats


def of_windows(nats: Float64, tokens: int, conditions: Mapping[str, Any]) -> Metric:
    """Perplexity from the means of `window_nats` over windows of `tokens` tokens."""
    low, high = interval(nats)
    return Metric(
        value=exp(float(nats.mean())),
        unit="perplexity per token",
        samples=len(nats) * (tokens - 1),
        low=low,
        high=high,
        conditions={"windows": len(nats), **conditions},
    )


def _silent(_windows: int) -> None:
    """Ignore progress."""


def _logits_of(
    runner: DecoderRunner | StreamedLm, windows: Tokens, batch: int, tick: Callable[[int], None]
) -> Iterator[tuple[int, Logits]]:
    """The number of the first window of each batch, and the batch's logits at every position but
    the last; a batch in parts if the device is full."""
    start = 0
    for logits in _parts(runner, windows[:, :-1], batch, tick):
        yield start, logits
        start += len(logits)


def _parts(
    runner: DecoderRunner | StreamedLm, windows: Tokens, batch: int, tick: Callable[[int], None]
) -> Iterator[Logits]:
    """A streamed model ticks by itself: blocks take its time."""
    if isinstance(runner, StreamedLm):
        yield from runner.logits_of(windows, batch, tick)
        return
    for start in range(0, len(windows), batch):
        rows = windows[start : start + batch]

        def run(part: slice, rows: Tokens = rows) -> Logits:
            return runner.prefill(rows[part], all_positions=True)

        yield from in_parts(len(rows), run)


def _mean_nats(logits: Logits, targets: Tokens, window: int) -> float:
    """Mean negative log-likelihood of `targets` (length,) under logits (length, vocabulary)."""
    if not np.isfinite(logits).all():
        raise NumericalError(
            f"the model returned NaN or infinite logits in text window `{window}`",
            hint="check the weights, or prune less",
        )
    total = 0.0
    for start in range(0, len(targets), _POSITIONS_AT_ONCE):
        part = slice(start, start + _POSITIONS_AT_ONCE)
        log_p = log_probabilities(logits[part])
        total -= float(np.take_along_axis(log_p, targets[part, None], axis=1).sum())
    return total / len(targets)


def interval(nats: Float64) -> tuple[float | None, float | None]:
    """95 % normal interval of the mean, mapped through exp; None with a single value."""
    if len(nats) < 2:
        return None, None
    mean, error = float(nats.mean()), Z95 * standard_error(nats)
    return exp(mean - error), exp(mean + error)


def standard_error(values: Float64) -> float:
    """Of the mean of at least two values."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def exp(nats: float) -> float:
    """exp, infinite where it overflows."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
