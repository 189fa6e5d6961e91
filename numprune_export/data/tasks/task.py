"""The interface of a task: examples, losses and scores; and helpers that tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.data.labelled.encoded import Encoded
from numprune_export.data.labelled.settings import LabelledData, MetricName
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.evaluate import Run
from numprune_export.data.tasks.evaluation import Evaluation
from numprune_export.export.encoder import Task as Kind
from numprune_export.export.runner import EncoderRunner

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """A task of a model with a head: its data, loss and scores."""

    kind: ClassVar[Kind]

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        """Scores that `evaluate` returns besides `loss`; the first is the default metric of the
        verdict."""
        ...

    def load(
        self,
        data: LabelledData,
        reading: Reading,
        search: Sequence[Path],
        *,
        labelled: bool = True,
    ) -> Encoded:
        """Read, draw and tokenise examples.

        Args:
            data: Settings of the data.
            reading: The model's tokenizer and limits.
            search: Folders in which relative paths are looked up.
            labelled: Whether labels are read; if false, rows need no labels.

        Raises:
            InputError: a file or a row is invalid, or there are too few rows; the message names it.
            HubError: the data set cannot be loaded.
            RecipeError: the settings do not fit the model or the task.
        """
        ...

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The loss of each example in nats, or the squared error of a regression, fp32, (batch,).

        Args:
            outputs: Output of a transformers class with this head, or its logits.
            labels: `Batch.labels` of the same rows.
        """
        ...

    def evaluate(self, runner: EncoderRunner, encoded: Encoded, run: Run = ...) -> Evaluation:
        """The scores of a model on labelled examples, mean loss included.

        Raises:
            InputError: all labels are equal; see `require_varied`.
            NumericalError: the model returns NaN or infinite logits.
            MissingExtraError: a library for the scores is not installed.
        """
        ...

    def require_varied(self, encoded: Encoded) -> None:
        """Check that the labels, which must be present, are not all equal.

        Raises:
            InputError: all labels are equal, so a constant prediction would be perfect.
        """
        ...


def headline(task: Task, data: LabelledData) -> MetricName:
    """The name of the metric of the verdict.

    Raises:
        RecipeError: the configured metric does not exist for this task.
    """
    if data.metric is not None and data.metric not in task.metrics:
        raise RecipeError(
            f"`metric: {data.metric}` does not fit the model's head",
            hint=f"its metrics: {', '.join(f'`{name}`' for name in task.metrics)}",
        )
    return data.metric or task.metrics[0]


def logits_of(outputs: Any) -> Tensor:
    """fp32 logits of a transformers output or of a tensor; start and end logits of a span are
    stacked as the last axis."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return outputs.float()
    if "start_logits" in outputs:
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).float()
    logits: Tensor = outputs.logits.float()
    return logits


def same_label(count: int, label: str) -> InputError:
    """The error for labels that are all equal."""
    return InputError(
        f"all {count} labelled examples have the same label, `{label}`: a constant prediction would"
        " be perfect",
        hint="give examples with different labels; do not truncate a file sorted by label",
    )


def text_fields(
    data: LabelledData, default: tuple[str, ...], counts: tuple[int, ...]
) -> tuple[str, ...]:
    """The names of the fields that hold text.

    Raises:
        RecipeError: their number does not fit the model's head.
    """
    fields = data.fields or default
    if len(fields) not in counts:
        allowed = " or ".join(map(str, counts))
        raise RecipeError(
            f"`fields` names {len(fields)} text fields, but the model's head takes {allowed}",
            hint=f"for example `fields: [{', '.join(default)}]`",
        )
    return fields


def text_of(value: Any, field: str, place: str) -> str:
    """A row's text, validated.

    Raises:
        InputError: the value is empty or not a string.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"{place} has no text under `{field}`" if value in (None, "") or isinstance(value, str)
            else f"{place} has a {type(value).__name__} under `{field}`, not a text",
            hint="fix the row, leave it out, or name the right `fields`",
        )  # fmt: skip
    return value
