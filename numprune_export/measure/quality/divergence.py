"""KL(dense ‖ pruned) of the models' outputs on unlabelled text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from numprune_export.core.errors import NumericalError
from numprune_export.core.halving import in_parts
from numprune_export.core.metric import Metric
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.batch import joined
from numprune_export.models.block_runner import device_of, model_inputs
from numprune_export.models.family import Family
from numprune_export.models.residency import source_of

ROWS_AT_ONCE = 256
"""Distributions compared at once; limits the memory of fp32 copies of a large vocabulary."""


@dataclass(frozen=True)
class DenseLogits:
    """Stored logits of the dense model, which pruned models are compared with."""

    family: Family
    windows: Windows
    """Right-padded texts; padding is not compared."""
    batch: int
    """Texts per forward pass."""
    stride: int
    """Token stride: every `stride`-th token of a language model is compared; 1: all."""
    held: list[Tensor]
    """Per batch (rows, classes); a span head has two entries per batch, start and end."""

    @classmethod
    @torch.inference_mode()
    def of(
        cls, dense: nn.Module, family: Family, windows: Windows, *, batch: int, stride: int = 1
    ) -> DenseLogits:
        """Run the dense model, which must be in eval mode."""
        return cls(
            family, windows, batch, stride, list(logits_of(dense, family, windows, batch, stride))
        )

    @torch.inference_mode()
    def divergence(self, pruned: nn.Module) -> Metric:
        """Mean KL divergence of next tokens, of classes per token or text, or of a span's two ends.

        A head with one output is a regression: half the squared difference, which is the divergence
        of two normal distributions of unit variance.

        Args:
            pruned: The pruned model, in eval mode.

        Raises:
            NumericalError: a logit is not finite.
        """
        total, count = 0.0, 0
        pruned_logits = logits_of(pruned, self.family, self.windows, self.batch, self.stride)
        for reference, candidate in zip(self.held, pruned_logits, strict=True):
            total += _divergence(reference, candidate)
            count += len(reference)
        if not total < float("inf"):
            raise NumericalError(
                "the pruned model's logits on calibration text are not finite",
                hint="prune less, or calibrate in `dtype: float32`",
            )
        return Metric(value=total / count, unit="nats", samples=count)


def logits_of(
    model: nn.Module, family: Family, windows: Windows, batch: int, stride: int
) -> Iterator[Float[Tensor, "rows classes"]]:
    """Logits of non-padding tokens, of texts, or of a span's two ends, batch by batch."""
    if source_of(model) is not None:
        yield from _logits_of_streamed(model, family, windows, batch, stride)
        return
    for rows in windows.by_length(batch):
        texts = windows.rows(rows)

        def run(rows: slice, texts: Windows = texts) -> list[Tensor]:
            inputs, real = model_inputs(model, family, texts.part(rows))
            if stride > 1:  # skipped tokens do not reach the head
                kept = torch.arange(0, real.shape[1], stride)
                inputs["logits_to_keep"], real = kept.to(device_of(model)), real[:, kept]
            return _rows_of(model(**inputs), real.to(device_of(model)))

        yield from _whole(in_parts(len(rows), run))


def _logits_of_streamed(
    model: nn.Module, family: Family, windows: Windows, batch: int, stride: int
) -> Iterator[Float[Tensor, "rows classes"]]:
    """As `logits_of`: all batches go through a block while it is in memory."""
    batches = block_runner.through_blocks(model, family, windows, batch)
    for rows, state in zip(windows.by_length(batch), batches, strict=True):
        part = windows.rows(rows)
        hidden, lengths = state.hidden[:, ::stride], -(-part.lengths // stride)
        kept = Windows(part.tokens[:, ::stride], lengths)

        def run(rows: slice, kept: Windows = kept, hidden: Tensor = hidden) -> list[Tensor]:
            texts, states = kept.part(rows), hidden[rows]
            _, real = model_inputs(model, family, texts)
            output = block_runner.after(model, family, texts, states)
            return _rows_of(output, real.to(states.device))

        yield from _whole(in_parts(len(rows), run))


def _whole(parts: Iterable[list[Tensor]]) -> Iterator[Tensor]:
    """The tensors of a batch from those of its parts."""
    return (joined(list(pieces)) for pieces in zip(*parts, strict=True))


def _rows_of(
    output: Any, real: Bool[Tensor, "batch length"]
) -> list[Float[Tensor, "rows classes"]]:
    if hasattr(output, "start_logits"):
        ends = (output.start_logits, output.end_logits)
        lowest = torch.finfo(ends[0].dtype).min
        return [end.masked_fill(~real, lowest) for end in ends]
    logits: Tensor = output.logits
    return [logits[real]] if logits.dim() == 3 else [logits]


def _divergence(
    reference: Float[Tensor, "rows classes"], candidate: Float[Tensor, "rows classes"]
) -> float:
    """Summed over rows."""
    if reference.shape[1] == 1:
        return float(0.5 * (candidate.double() - reference.double()).square().sum())
    total = 0.0
    for start in range(0, len(reference), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        p, q = (logits[part].float().log_softmax(1) for logits in (reference, candidate))
        total += float(functional.kl_div(q, p, reduction="sum", log_target=True))
    return total
