"""Settings of labelled data: source, field names, number of examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from numprune_export.core.settings import Strict
from numprune_export.data.corpus_settings import DatasetId

MetricName = Literal["accuracy", "f1", "matthews", "pearson", "spearman", "exact_match"]


def _keys_as_text(mapping: Any) -> Any:
    """Convert keys to text: YAML reads the keys of `{0: 1}` and `{true: 1}` as a number and a
    boolean."""
    if not isinstance(mapping, dict):
        return mapping
    return {_key_as_text(key): value for key, value in mapping.items()}


def _key_as_text(key: Any) -> Any:
    if isinstance(key, bool):
        return str(key).lower()
    return str(key) if isinstance(key, int | float) else key


class LabelledData(Strict):
    """Labelled examples for a model with a task head.

    The head determines the form of a row. Sequence head: one text or a pair, and a class or a
    number. Token head: a list of words, and one tag per word. Span head: a question, a context, and
    answers in SQuAD form.
    """

    files: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """`.jsonl`, `.json`, `.csv` or `.tsv` files with one row per example, or SQuAD `.json` files.
    In `.tsv` quote marks have no meaning."""
    dataset: DatasetId | None = None
    """Instead of `files`."""
    fields: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] | None = None
    """The fields of a row with its text. Sequence head: one text or a pair; null: `text`. Token
    head: the words; null: `words`. Span head: question and context; null: `question` and
    `context`."""
    label: str | None = None
    """The field with the label. Null: `label`, `tags` or `answers`, for a sequence, token or span
    head."""
    relabel: Annotated[dict[str, int], BeforeValidator(_keys_as_text)] | None = None
    """Mapping from labels in the data, names or numbers, to the model's class numbers. Labels that
    are not listed do not change."""
    target_scale: PositiveFloat = 1.0
    """Divisor of regression labels, for a model trained on another scale."""
    outside: str = "O"
    """The tag outside of entities, which the F1 score ignores."""
    metric: MetricName | None = None
    """The metric of the verdict. Null: accuracy for classes; Spearman for numbers; F1 for tags and
    answers."""
    sequences: PositiveInt | None = None
    """Number of examples drawn without replacement. Null: all, in order."""
    max_length: Annotated[int, Field(ge=8)] = 128
    """Most tokens of an example, special tokens included. Longer examples are truncated; for a span
    head they are split into several windows."""
    stride: PositiveInt = 64
    """Context tokens shared by consecutive windows of a question."""
    batch: PositiveInt = 32
    """Sequences per batch."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the draw of examples."""

    @model_validator(mode="after")
    def _consistent(self) -> LabelledData:
        if (self.files is None) == (self.dataset is None):
            raise ValueError("give either `files` or `dataset`")
        if self.sequences is not None and self.sequences < self.batch:
            raise ValueError(f"{self.sequences} sequences are fewer than one batch of {self.batch}")
        return self
