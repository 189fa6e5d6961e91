"""Token task: one tag per word, such as part of speech or entity, at its first token."""

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

from numprune_export.core.errors import InputError
from numprune_export.data.labelled import labels, rows
from numprune_export.data.labelled.encoded import UNSCORED, Encoded
from numprune_export.data.labelled.labels import Classes
from numprune_export.data.labelled.settings import LabelledData, MetricName
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.row_file import Row
from numprune_export.data.tasks.evaluate import Run, answered, conditions
from numprune_export.data.tasks.evaluation import Evaluation, Measure
from numprune_export.data.tasks.metrics import entities
from numprune_export.data.tasks.metrics.bootstrap import Rows
from numprune_export.data.tasks.task import logits_of, same_label, text_fields
from numprune_export.export.encoder import Task as Kind
from numprune_export.export.runner import EncoderRunner


@dataclass(frozen=True)
class TokenTask:
    """See `Task`."""

    classes: Classes
    kind: ClassVar[Kind] = "token"

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        return ("f1", "accuracy")

    def load(
        self,
        data: LabelledData,
        reading: Reading,
        search: Sequence[Path],
        *,
        labelled: bool = True,
    ) -> Encoded:
        """See `Task.load`."""
        (field,) = text_fields(data, ("words",), (1,))
        examples = rows.read(data, search)
        words = [_words(row.get(field), field, row.place) for row in examples]
        _require_word_starts(reading.tokenizer)
        tokens = reading.call(data, words, is_split_into_words=True)
        windows = reading.windows(tokens, [row.place for row in examples])
        tags = self._tags(data, examples, words) if labelled else None
        return Encoded(
            kind=self.kind,
            data=data,
            windows=windows,
            labels=None if tags is None else _placed(tags, tokens, windows.tokens.shape),
            cut=reading.cut(tokens),
        )

    def _tags(
        self, data: LabelledData, examples: list[Row], words: list[list[str]]
    ) -> list[list[int]]:
        field, tagged = data.label or "tags", []
        for row, text in zip(examples, words, strict=True):
            tags = labels.of(row, field)
            tags = tags.split() if isinstance(tags, str) else tags
            if not isinstance(tags, list) or len(tags) != len(text):
                raise InputError(
                    f"{row.place} has {len(text)} words and"
                    f" {len(tags) if isinstance(tags, list) else 'no list of'} tags",
                    hint=f"give one tag per word under `{field}`",
                )
            tagged.append([self.classes.number(tag, row.place, data.relabel) for tag in tags])
        return tagged

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Mean cross entropy over the words of each text; see `Task.loss`."""
        logits = logits_of(outputs)
        # A batch may be shorter than the longest example.
        labels = labels[:, : logits.shape[1]]
        scored = labels != UNSCORED
        losses = functional.cross_entropy(
            logits.mT, labels, ignore_index=UNSCORED, reduction="none"
        ).masked_fill(~scored, 0.0)
        return losses.sum(1) / scored.sum(1).clamp_min(1)

    def require_varied(self, encoded: Encoded) -> None:
        """See `Task.require_varied`."""
        assert encoded.labels is not None, "labels are needed"
        scored = encoded.labels[encoded.labels != UNSCORED]
        if (scored == scored[0]).all():
            raise same_label(len(encoded), self.classes.names[int(scored[0])])

    def evaluate(
        self,
        runner: EncoderRunner,
        encoded: Encoded,
        run: Run = Run(),  # noqa: B008, frozen
    ) -> Evaluation:
        """See `Task.evaluate`."""
        self.require_varied(encoded)
        losses = np.empty(len(encoded))
        counts = np.empty((len(encoded), 5))
        for batch, logits in answered(runner, encoded, run):
            labels = np.asarray(batch.labels)
            losses[batch.rows] = self.loss(
                torch.from_numpy(logits), torch.from_numpy(labels)
            ).numpy()
            for row, gold, predicted in zip(batch.rows, labels, logits.argmax(2), strict=True):
                scored = gold != UNSCORED
                counts[row] = self._counts(gold[scored], predicted[scored], encoded.data.outside)
        scores = {
            "f1": _ratio(counts[:, 2:3] * 2, counts[:, 3:5], "fraction"),
            "accuracy": _ratio(counts[:, 0:1], counts[:, 1:2], "fraction"),
            "loss": Measure.mean_of(losses, "nats per word, mean over texts"),
        }
        totals = {"words": int(counts[:, 1].sum()), "entities": int(counts[:, 3].sum())}
        return Evaluation(scores, {**conditions(encoded, run), **totals})

    def _counts(
        self, gold: NDArray[np.int64], predicted: NDArray[np.int64], outside: str
    ) -> tuple[int, int, int, int, int]:
        """Correct words, words, correct entities, gold entities, predicted entities."""
        names = self.classes.names
        tags, predicted_tags = ([names[index] for index in row] for row in (gold, predicted))
        right = int((gold == predicted).sum())
        return right, len(gold), *entities.counts(tags, predicted_tags, outside)


def _require_word_starts(tokenizer: Any) -> None:
    """Check that a byte-level tokenizer, which marks a word's start by the blank before it, adds
    the blank.

    Raises:
        InputError: the tokenizer does not add blanks before separate words.
    """
    splits = str(tokenizer.backend_tokenizer.pre_tokenizer)
    if "ByteLevel" in splits and "add_prefix_space=True" not in splits:
        raise InputError(
            "the tokenizer needs a blank before every word but is not set to add it",
            hint="load it with `add_prefix_space=True` and save it again",
        )


def _words(value: Any, field: str, place: str) -> list[str]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise InputError(
            f"{place} has no list of words under `{field}`",
            hint="fix the row, or name the right `fields`",
        )
    if not words:
        raise InputError(f"{place} has no text under `{field}`", hint="leave the row out")
    return words


def _placed(tags: list[list[int]], tokens: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(n, length): the tag of each word at its first token, UNSCORED elsewhere."""
    placed = np.full(shape, UNSCORED, dtype=np.int64)
    for row, (tagged, encoding) in enumerate(zip(tags, tokens.encodings, strict=True)):
        last = None
        for position, word in enumerate(encoding.word_ids):
            if word is not None and word != last:
                placed[row, position] = tagged[word]
            last = word
    return placed


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], unit: str) -> Measure:
    """A ratio of sums over texts; 0 where the denominator is 0."""
    numerators, denominators = part.sum(1), whole.sum(1)

    def score(drawn: Rows) -> NDArray[np.float64]:
        return np.asarray(numerators[drawn].sum(1) / np.maximum(denominators[drawn].sum(1), 1))

    value = float(score(np.arange(len(numerators))[None])[0])
    return Measure(value, unit, len(numerators), score)
