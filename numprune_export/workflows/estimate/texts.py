"""How much calibration text there will be: from the recipe, without a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numprune_export.core.errors import RecipeError
from numprune_export.core.paths import find
from numprune_export.data.corpus import Corpus
from numprune_export.data.labelled import rows
from numprune_export.data.labelled.settings import LabelledData

TOKENS_PER_WORD = 1.3
"""Of English text, and of the vocabularies of encoders."""
SPECIAL_TOKENS = 2
USUAL_FIELDS = ("text", "words", "question", "context")
"""What holds the text of a row where the recipe does not say."""


@dataclass(frozen=True)
class Texts:
    """Sequences that go through the model."""

    sequences: int
    length: float
    """Tokens of a sequence, on average."""
    batch: int
    assumption: str
    """Where the length is from, for people."""
    square: float | None = None
    """Mean of the squared lengths; None: all are alike."""
    bytes: int = 0
    """Of the text that the sequences are cut from, where it is here."""

    @property
    def tokens(self) -> float:
        return self.sequences * self.length

    @property
    def widths(self) -> int:
        """Different lengths of batches."""
        return 1 if self.square is None else self.batches

    @property
    def pairs(self) -> float:
        """Of tokens that see each other."""
        return self.sequences * (self.length**2 if self.square is None else self.square)

    @property
    def batches(self) -> int:
        return -(-self.sequences // self.batch)

    @property
    def batch_tokens(self) -> float:
        """Of a full batch."""
        return min(self.batch, self.sequences) * self.length

    def first(self, sequences: int, batch: int | None = None) -> Texts:
        """A part of them."""
        count = min(sequences, self.sequences)
        return replace(self, sequences=count, batch=batch or self.batch)

    def one_in(self, every: int) -> Texts:
        """Of their tokens one in so many."""
        return replace(self, length=self.length / every)


def texts_of(calibration: Corpus | LabelledData, search: Sequence[Path]) -> Texts:
    """What a recipe asks for.

    Raises:
        RecipeError: all examples of a data set on the hub are asked for, however many they are.
        InputError: a file of labelled data is missing or unreadable, or holds too few examples.
    """
    if isinstance(calibration, Corpus):
        what = (
            "full windows" if calibration.windows == "packed" else "windows, none of them shorter"
        )
        length = float(calibration.tokens_per_sequence)
        told = f"{what} of {length:.0f} tokens"
        places = [find(name, search) for name in calibration.texts or ()]
        size = sum(one.stat().st_size for one in places if one is not None)
        return Texts(calibration.sequences, length, calibration.batch, told, bytes=size)
    if calibration.dataset is not None:
        return _of_dataset(calibration)
    found = rows.read(calibration, search)
    lengths = [
        min(
            SPECIAL_TOKENS + TOKENS_PER_WORD * _words(one.fields, calibration.fields),
            float(calibration.max_length),
        )
        for one in found
    ]
    length = sum(lengths) / len(lengths)
    told = f"{length:.0f} tokens each on average, at {TOKENS_PER_WORD} a word"
    square = sum(one**2 for one in lengths) / len(lengths)
    return Texts(len(lengths), length, calibration.batch, told, square)


def _of_dataset(data: LabelledData) -> Texts:
    if data.sequences is None:
        raise RecipeError(
            f"how many examples `{data.dataset.id if data.dataset else ''}` holds is known once it is"
            " fetched",
            hint="give `calibration.sequences`, for example with `--set calibration.sequences=2048`",
        )
    told = f"every example as long as `max_length`, {data.max_length} tokens"
    return Texts(data.sequences, float(data.max_length), data.batch, told)


def _words(fields: Mapping[str, Any], named: tuple[str, ...] | None) -> int:
    return sum(_count(fields[name]) for name in named or USUAL_FIELDS if name in fields)


def _count(value: Any) -> int:
    """Words of a text, or of a text that is given word by word."""
    return len(value.split()) if isinstance(value, str) else len(value)
