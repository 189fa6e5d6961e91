"""Settings of labelled data: where the examples are, what they are called, how many are drawn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from numprune_export.core.settings import Strict
from numprune_export.data.corpus import Dataset

MetricName = Literal["accuracy", "f1", "matthews", "pearson", "spearman", "exact_match"]


def _keys_as_text(given: Any) -> Any:
    """YAML reads the keys of `{0: 1}` and `{true: 1}` as a number and a truth value."""
    if not isinstance(given, dict):
        return given
    return {_key_as_text(key): value for key, value in given.items()}


def _key_as_text(key: Any) -> Any:
    if isinstance(key, bool):
        return str(key).lower()
    return str(key) if isinstance(key, int | float) else key


class LabelledData(Strict):
    """Labelled examples for a model with a task head.

    What a row holds follows from the head. One answer per text: one text or a pair, and a class or a
    number. One per token: a list of words, and as many tags. A span: a question, a context, and
    answers as in SQuAD.
    """

    files: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """`.jsonl`, `.json`, `.csv` or `.tsv` files with a row per example, or SQuAD's own `.json` files. In
    `.tsv` a quote mark is a character like any other."""
    dataset: Dataset | None = None
    """Instead of `files`."""
    fields: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] | None = None
    """The fields of a row that hold its text: one text or a pair; the words; question and context.
    Null: `text`; `words`; `question` and `context`."""
    label: str | None = None
    """The field that holds the answer. Null: `label`; `tags`; `answers`."""
    relabel: Annotated[dict[str, int], BeforeValidator(_keys_as_text)] | None = None
    """A label as the data has it, a name or a number, to the model's class number, where the two differ.
    Labels it does not name stay as they are."""
    target_scale: PositiveFloat = 1.0
    """What the numbers of a regression are divided by, where the model learnt them on another scale."""
    outside: str = "O"
    """Tags: the one that marks nothing, which the F1 score leaves out."""
    metric: MetricName | None = None
    """The one that counts in the verdict. Null: accuracy of classes; Spearman of numbers; F1 of tags
    and answers."""
    sequences: PositiveInt | None = None
    """How many examples are drawn, without replacement. Null: all, in their order."""
    max_length: Annotated[int, Field(ge=8)] = 128
    """Tokens of an example, special ones included; what is longer is cut, or, where a span is
    asked for, read in several windows."""
    stride: PositiveInt = 64
    """Context tokens that two windows of one question share."""
    batch: PositiveInt = 32
    """Sequences run at once."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Which of the examples are drawn."""

    @model_validator(mode="after")
    def _consistent(self) -> LabelledData:
        if (self.files is None) == (self.dataset is None):
            raise ValueError("give either `files` or `dataset`")
        if self.sequences is not None and self.sequences < self.batch:
            raise ValueError(f"{self.sequences} sequences are fewer than one batch of {self.batch}")
        return self
