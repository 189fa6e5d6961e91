"""Settings of plain text: files, data sets, and mixes of several sources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from numprune_export.core.settings import Strict

Files = Annotated[tuple[str, ...], Field(min_length=1)]

AGGREGATES = ("mean", "worst")
"""Names of metrics over all sources, which no source may have."""


class DatasetId(Strict):
    """A data set of the Hugging Face Hub, or a folder that `datasets` can load."""

    id: str
    name: str | None = None
    """The configuration of the data set, for example `wikitext-2-raw-v1`."""
    split: str = "train"
    revision: str | None = None


class Dataset(DatasetId):
    """A data set of texts, which can be streamed."""

    stream: bool | None = None
    """Read rows until the windows are full, instead of the whole data set. Null: a hub id in a
    `mix` is streamed, every other data set is read whole."""
    shuffle_buffer: PositiveInt = 1000
    """Rows from which the next row of a streamed data set is drawn; its files are in random order
    too. The seed of both is that of the corpus."""


class Source(Strict):
    """One text source of a mix."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """Name in metrics and tables. Null: that of the first file, or of the data set."""
    share: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Calibration: part of the windows, relative to the shares of the other sources. Null for all
    sources: equal parts."""
    texts: Files | None = None
    """Files of text, as in a corpus."""
    dataset: Dataset | None = None
    """Instead of `texts`."""
    field: str | None = None
    """The field with the text, in a file of rows or a data set. Null: that of the corpus."""

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        if (self.texts is None) == (self.dataset is None):
            raise ValueError("give either `texts` or `dataset`")
        return self

    @property
    def title(self) -> str:
        """`name`, or that of the first file or the data set.

        >>> Source(texts=("data/sotu 1980.txt",)).title
        'sotu-1980'
        >>> Source(dataset=Dataset(id="Salesforce/wikitext", name="wikitext-2-raw-v1")).title
        'wikitext-wikitext-2-raw-v1'
        """
        if self.name is not None:
            return self.name
        if self.dataset is not None:
            parts = [PurePath(self.dataset.id).name, *filter(None, [self.dataset.name])]
        else:
            parts = [PurePath(name).stem for name in (self.texts or ())[:1]]
        return re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(parts))


class Corpus(Strict):
    """A text source, the amount of text, and how it is split into windows."""

    texts: Files | None = None
    """Files of plain text (`.txt` or any other suffix), or with one text per row: `.jsonl`,
    `.json`, `.csv`, `.tsv`."""
    dataset: Dataset | None = None
    """Instead of `texts`."""
    mix: Annotated[tuple[Source, ...], Field(json_schema_extra={"minItems": 1})] | None = None
    """Instead of `texts`: several sources. Calibration: `sequences` windows in total, divided by
    `share`. Evaluation: `sequences` windows of each source, which is measured by itself."""
    field: str = "text"
    """The field with the text, in a file of rows or a data set."""
    windows: Literal["packed", "documents"] = "packed"
    """`packed`: documents are joined and split into full windows, without padding. `documents`: one
    window per document, truncated or padded; padding is ignored."""
    sequences: PositiveInt = 64
    tokens_per_sequence: Annotated[int, Field(ge=2)] = 512
    batch: PositiveInt = 4
    """Sequences per batch."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the draw of windows."""

    @model_validator(mode="after")
    def _one_kind(self) -> Corpus:
        given = [kind for kind in (self.texts, self.dataset, self.mix) if kind is not None]
        if self.mix == ():
            raise ValueError("`mix` has no source")
        if len(given) != 1:
            raise ValueError("give either `texts` or `dataset` or `mix`")
        _require_names([source.title for source in self.mix or ()])
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all text files."""
        sources = self.mix or (Source(texts=self.texts, dataset=self.dataset),)
        return tuple(name for source in sources for name in source.texts or ())

    def alone(self, source: Source, sequences: int) -> Corpus:
        """The corpus of one source of the mix."""
        own = {"texts": source.texts, "dataset": source.dataset, "sequences": sequences}
        field = source.field or self.field
        return self.model_copy(update={**own, "field": field, "mix": None})

    def shared(self) -> tuple[int, ...]:
        """Windows of each source of a mix of `sequences` windows: by largest remainder, the first
        of equal remainders first.

        >>> sources = [{"texts": ["a"], "share": 0.4}, {"texts": ["b"], "share": 0.6}]
        >>> Corpus.model_validate({"mix": sources, "sequences": 8}).shared()
        (3, 5)
        """
        shares = [source.share or 1.0 for source in self.mix or ()]
        quotas = [self.sequences * (share / sum(shares)) for share in shares]
        counts = [int(quota) for quota in quotas]
        order = sorted(range(len(quotas)), key=lambda at: counts[at] - quotas[at])
        for at in order[: self.sequences - sum(counts)]:
            counts[at] += 1
        return tuple(counts)


def _require_names(names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ValueError(
                f"{times} sources of `mix` are called `{name}`: give each its own `name`"
            )
        if name in AGGREGATES:
            raise ValueError(f"no source of `mix` may be called `{name}`: give it another `name`")
