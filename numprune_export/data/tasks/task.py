"""The contract of a task: examples in, losses for gradients out, scores of a model."""

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
    """What a model with a head is asked, and how its answers are judged."""

    kind: ClassVar[Kind]

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        """What `evaluate` gives besides `loss`; the first one counts unless the data says else."""
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
            data: Which examples.
            reading: The model's tokenizer and limits.
            search: Folders that relative paths are looked up in.
            labelled: Whether labels are read; rows need none if not.

        Raises:
            InputError: a file or a row is unusable, or there are too few; the message names it.
            HubError: the data set cannot be fetched.
            RecipeError: the settings ask for what this model or task has not.
        """
        ...

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The loss of each example in nats (of a regression: its squared error), fp32, (batch,).

        Args:
            outputs: What a transformers class with this head returns, or its logits.
            labels: `Batch.labels` of the same rows.
        """
        ...

    def evaluate(self, runner: EncoderRunner, encoded: Encoded, run: Run = ...) -> Evaluation:
        """The scores of a model on labelled examples, its mean loss among them.

        Raises:
            InputError: the examples cannot tell a good model from a bad one; see `require_varied`.
            NumericalError: the model gives NaN or infinite logits.
            MissingExtraError: a library for the scores is not installed.
        """
        ...

    def require_varied(self, encoded: Encoded) -> None:
        """Check that the labels, which must be there, differ; before work is done for their sake.

        Raises:
            InputError: all are the same: any model that always says so would be perfect.
        """
        ...


def headline(task: Task, data: LabelledData) -> MetricName:
    """The name of the score that counts.

    Raises:
        RecipeError: the data asks for one that this task does not have.
    """
    if data.metric is not None and data.metric not in task.metrics:
        raise RecipeError(
            f"`metric: {data.metric}` does not fit the model's head",
            hint=f"it has {', '.join(f'`{one}`' for one in task.metrics)}",
        )
    return data.metric or task.metrics[0]


def logits_of(outputs: Any) -> Tensor:
    """fp32 logits of a transformers output, start and end of a span as the last axis, or of a tensor."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return outputs.float()
    if "start_logits" in outputs:
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).float()
    logits: Tensor = outputs.logits.float()
    return logits


def same_label(count: int, label: str) -> InputError:
    return InputError(
        f"all {count} labelled examples have the same answer, `{label}`: no score can tell a good"
        " model from one that always says so",
        hint="give examples with different labels; a file sorted by label must not be cut",
    )


def text_fields(
    data: LabelledData, default: tuple[str, ...], counts: tuple[int, ...]
) -> tuple[str, ...]:
    """The names of the fields that hold text.

    Raises:
        RecipeError: there are not as many as the model's head takes.
    """
    fields = data.fields or default
    if len(fields) not in counts:
        wanted = " or ".join(map(str, counts))
        raise RecipeError(
            f"`fields` names {len(fields)} fields of text, where the model's head takes {wanted}",
            hint=f"for example `fields: [{', '.join(default)}]`",
        )
    return fields


def text_of(value: Any, field: str, place: str) -> str:
    """A row's text.

    Raises:
        InputError: it is empty, or no text.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"{place} has no text under `{field}`" if value in (None, "") or isinstance(value, str)
            else f"{place} has a {type(value).__name__} under `{field}`, not a text",
            hint="mend the row, leave it out, or name the right `fields`",
        )  # fmt: skip
    return value
