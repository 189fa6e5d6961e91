"""Amount of calibration text of a recipe, without a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numprune_export.core.errors import RecipeError
from numprune_export.core.paths import find
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.labelled import rows
from numprune_export.data.labelled.settings import LabelledData

TOKENS_PER_WORD = 1.3
"""For English text and the vocabularies of encoders."""
SPECIAL_TOKENS = 2
USUAL_FIELDS = ("text", "words", "question", "context")
"""Text fields of an example if the recipe names none."""


@dataclass(frozen=True)
class Texts:
    """Number and length of the sequences that the model processes."""

    sequences: int
    length: float
    """Mean tokens per sequence."""
    batch: int
    assumption: str
    """Source of the length, for people."""
    square: float | None = None
    """Mean squared length; None: all lengths are equal."""
    bytes: int = 0
    """Size of the local text files that the sequences are cut from."""

    @property
    def tokens(self) -> float:
        return self.sequences * self.length

    @property
    def widths(self) -> int:
        """Number of distinct batch lengths."""
        return 1 if self.square is None else self.batches

    @property
    def pairs(self) -> float:
        """Pairs of tokens in attention."""
        return self.sequences * (self.length**2 if self.square is None else self.square)

    @property
    def batches(self) -> int:
        return -(-self.sequences // self.batch)

    @property
    def batch_tokens(self) -> float:
        """Tokens of a full batch."""
        return min(self.batch, self.sequences) * self.length

    def first(self, sequences: int, batch: int | None = None) -> Texts:
        """The first sequences."""
        count = min(sequences, self.sequences)
        return replace(self, sequences=count, batch=batch or self.batch)

    def strided(self, stride: int) -> Texts:
        """Every `stride`-th token of each sequence."""
        return replace(self, length=self.length / stride)


def texts_of(calibration: Corpus | LabelledData, search: Sequence[Path]) -> Texts:
    """Texts of a recipe's calibration.

    Raises:
        RecipeError: all examples of a hub data set are requested, so their number is unknown.
        InputError: a file of labelled data is missing or unreadable, or holds too few examples.
    """
    if isinstance(calibration, Corpus):
        what = "full windows" if calibration.windows == "packed" else "windows, none shorter"
        length = float(calibration.tokens_per_sequence)
        assumption = f"{what} of {length:.0f} tokens"
        places = [find(name, search) for name in calibration.files]
        size = sum(path.stat().st_size for path in places if path is not None)
        return Texts(calibration.sequences, length, calibration.batch, assumption, bytes=size)
    if calibration.dataset is not None:
        return _of_dataset(calibration)
    examples = rows.read(calibration, search)
    lengths = [
        min(
            SPECIAL_TOKENS + TOKENS_PER_WORD * _words(example.fields, calibration.fields),
            float(calibration.max_length),
        )
        for example in examples
    ]
    length = sum(lengths) / len(lengths)
    assumption = f"{length:.0f} tokens each on average, at {TOKENS_PER_WORD} a word"
    square = sum(value**2 for value in lengths) / len(lengths)
    return Texts(len(lengths), length, calibration.batch, assumption, square)


def _of_dataset(data: LabelledData) -> Texts:
    if data.sequences is None:
        raise RecipeError(
            f"the number of examples of `{data.dataset.id if data.dataset else ''}` is unknown"
            " before the data set is fetched",
            hint="give `calibration.sequences`, for example with `--set calibration.sequences=2048`",
        )
    assumption = f"every example has `max_length`, {data.max_length} tokens"
    return Texts(data.sequences, float(data.max_length), data.batch, assumption)


def _words(fields: Mapping[str, Any], named: tuple[str, ...] | None) -> int:
    return sum(_count(fields[name]) for name in named or USUAL_FIELDS if name in fields)


def _count(value: Any) -> int:
    """Words of a text, or of a list of words."""
    return len(value.split()) if isinstance(value, str) else len(value)
