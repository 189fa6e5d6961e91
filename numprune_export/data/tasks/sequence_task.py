"""Sequence task: one class or one number per text or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from numprune_export.data.labelled import labels, rows
from numprune_export.data.labelled.encoded import Encoded
from numprune_export.data.labelled.labels import Classes
from numprune_export.data.labelled.settings import LabelledData, MetricName
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.row_file import Row
from numprune_export.data.tasks.evaluate import Run, answered, conditions
from numprune_export.data.tasks.evaluation import Evaluation, Measure
from numprune_export.data.tasks.metrics import classification, correlation
from numprune_export.data.tasks.task import logits_of, same_label, text_fields, text_of
from numprune_export.export.encoder import Task as Kind
from numprune_export.export.runner import EncoderRunner


@dataclass(frozen=True)
class SequenceTask:
    """See `Task`."""

    classes: Classes
    regression: bool
    """Whether the model predicts a number instead of a class."""
    kind: ClassVar[Kind] = "sequence"

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        return ("spearman", "pearson") if self.regression else ("accuracy", "f1", "matthews")

    def load(
        self,
        data: LabelledData,
        reading: Reading,
        search: Sequence[Path],
        *,
        labelled: bool = True,
    ) -> Encoded:
        """See `Task.load`."""
        fields = text_fields(data, ("text",), (1, 2))
        examples = rows.read(data, search)
        texts = [
            [text_of(row.get(field), field, row.place) for row in examples] for field in fields
        ]
        tokens = reading.call(data, *texts, truncation="longest_first")
        return Encoded(
            kind=self.kind,
            data=data,
            windows=reading.windows(tokens, [row.place for row in examples]),
            labels=self._labels(data, examples) if labelled else None,
            cut=reading.cut(tokens),
        )

    def _labels(
        self, data: LabelledData, examples: list[Row]
    ) -> NDArray[np.int64] | NDArray[np.float32]:
        pairs = [(labels.of(row, data.label or "label"), row.place) for row in examples]
        if self.regression:
            targets = [labels.target_number(*pair, data.target_scale) for pair in pairs]
            return np.asarray(targets, dtype=np.float32)
        numbers = [self.classes.number(*pair, data.relabel) for pair in pairs]
        return np.asarray(numbers, dtype=np.int64)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Cross entropy, or the squared error of a regression; see `Task.loss`."""
        logits = logits_of(outputs)
        if self.regression:
            return (logits[:, 0] - labels.float()).square()
        return functional.cross_entropy(logits, labels, reduction="none")

    def require_varied(self, encoded: Encoded) -> None:
        """See `Task.require_varied`."""
        assert encoded.labels is not None, "labels are needed"
        if (encoded.labels == encoded.labels[0]).all():
            first = encoded.labels[0]
            name = f"{first:g}" if self.regression else self.classes.names[int(first)]
            raise same_label(len(encoded), name)

    def evaluate(
        self,
        runner: EncoderRunner,
        encoded: Encoded,
        run: Run = Run(),  # noqa: B008, frozen
    ) -> Evaluation:
        """See `Task.evaluate`."""
        self.require_varied(encoded)
        assert encoded.labels is not None
        losses = np.empty(len(encoded))
        answers = np.empty(len(encoded))
        for batch, logits in answered(runner, encoded, run):
            gold_labels = torch.from_numpy(np.asarray(batch.labels))
            losses[batch.rows] = self.loss(torch.from_numpy(logits), gold_labels).numpy()
            answers[batch.rows] = logits[:, 0] if self.regression else logits.argmax(1)
        unit = "squared error" if self.regression else "nats per example"
        if self.regression:
            scores = correlation.measures(encoded.labels.astype(np.float64), answers)
        else:
            gold = encoded.labels.astype(np.int64)
            predicted = answers.astype(np.int64)
            scores = classification.measures(gold, predicted, len(self.classes.names))
        return Evaluation(
            {**scores, "loss": Measure.mean_of(losses, unit)}, conditions(encoded, run)
        )
