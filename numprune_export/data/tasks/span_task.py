"""Span task: the answer to a question in a context, as in SQuAD 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from numprune_export.data.labelled import rows
from numprune_export.data.labelled.encoded import Encoded
from numprune_export.data.labelled.questions import Question
from numprune_export.data.labelled.settings import LabelledData, MetricName
from numprune_export.data.labelled.span_windows import encode
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.evaluate import Run, answered, conditions
from numprune_export.data.tasks.evaluation import Evaluation, Measure
from numprune_export.data.tasks.metrics import squad
from numprune_export.data.tasks.span_decoding import Candidate, best_answer, candidates
from numprune_export.data.tasks.task import logits_of, same_label, text_fields
from numprune_export.export.encoder import Task as Kind
from numprune_export.export.runner import EncoderRunner


@dataclass(frozen=True)
class SpanTask:
    """See `Task`."""

    kind: ClassVar[Kind] = "span"

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        return ("f1", "exact_match")

    def load(
        self,
        data: LabelledData,
        reading: Reading,
        search: Sequence[Path],
        *,
        labelled: bool = True,
    ) -> Encoded:
        """See `Task.load`."""
        fields = text_fields(data, ("question", "context"), (2,))
        examples = rows.read(data, search)
        label = data.label or "answers"
        questions = [Question.of(row, fields, label, labelled=labelled) for row in examples]
        return encode(data, reading, questions)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Mean cross entropy of first and last token, without padding; see `Task.loss`."""
        logits = logits_of(outputs)
        padding = torch.arange(logits.shape[1], device=logits.device) >= labels[:, 2:]
        logits = logits.masked_fill(padding[..., None], -torch.inf)
        ends = functional.cross_entropy(logits, labels[:, :2], reduction="none")
        return ends.mean(1)

    def require_varied(self, encoded: Encoded) -> None:
        """See `Task.require_varied`."""
        assert encoded.questions is not None
        assert encoded.questions.answers is not None, "labels are needed"
        if not any(encoded.questions.answers):
            raise same_label(len(encoded.questions.answers), "no answer")

    def evaluate(
        self,
        runner: EncoderRunner,
        encoded: Encoded,
        run: Run = Run(),  # noqa: B008, frozen
    ) -> Evaluation:
        """See `Task.evaluate`."""
        self.require_varied(encoded)
        questions = encoded.questions
        assert questions is not None
        assert questions.answers is not None
        losses = np.empty(len(encoded))
        by_question: list[list[Candidate]] = [[] for _ in questions.contexts]
        for batch, logits in answered(runner, encoded, run):
            labels = torch.from_numpy(np.asarray(batch.labels))
            losses[batch.rows] = self.loss(torch.from_numpy(logits), labels).numpy()
            for row, window_logits in zip(batch.rows, logits, strict=True):
                length = int(encoded.windows.lengths[row])
                by_question[questions.question_of[row]] += candidates(
                    window_logits[:length], questions.offsets[row, :length]
                )
        answers = [
            best_answer(window_candidates, context, may_be_none=questions.may_be_unanswerable)
            for window_candidates, context in zip(by_question, questions.contexts, strict=True)
        ]
        scores = _scores(answers, questions.answers, questions.may_be_unanswerable)
        scores["loss"] = Measure.mean_of(losses, "nats per window")
        return Evaluation(scores, {**conditions(encoded, run), "windows": len(encoded)})


def _scores(
    predicted: list[str], accepted: tuple[tuple[str, ...], ...], unanswerable: bool
) -> dict[str, Measure]:
    pairs = list(zip(predicted, accepted, strict=True))
    f1 = np.asarray([squad.f1(*pair) for pair in pairs])
    scores = {
        "f1": Measure.mean_of(f1, "fraction"),
        "exact_match": Measure.mean_of(
            np.asarray([squad.exact_match(*pair) for pair in pairs]), "fraction"
        ),
    }
    if unanswerable:
        has_answer = np.asarray([bool(answers) for answers in accepted])
        scores["f1_answerable"] = Measure.mean_of(f1[has_answer], "fraction")
        if not has_answer.all():
            scores["f1_unanswerable"] = Measure.mean_of(f1[~has_answer], "fraction")
    return scores
