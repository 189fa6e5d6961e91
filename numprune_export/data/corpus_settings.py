"""Settings of plain text: files, data sets, the shipped general text, mixes of several sources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from numprune_export.core.settings import Strict
from numprune_export.data import general_files
from numprune_export.data.general_files import GENERAL, Builtin

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
    builtin: Builtin | None = None
    """Instead of `texts`: text that comes with the package. `general`: its kinds in equal parts;
    `general/code`: one kind."""
    field: str | None = None
    """The field with the text, in a file of rows or a data set. Null: that of the corpus."""

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        given = [kind for kind in (self.texts, self.dataset, self.builtin) if kind is not None]
        if len(given) != 1:
            raise ValueError("give either `texts` or `dataset` or `builtin`")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its text files; paths of those that come with the package."""
        if self.builtin is not None:
            return tuple(str(path) for path in general_files.files(self.builtin))
        return self.texts or ()

    @property
    def title(self) -> str:
        """`name`, or that of the first file or the data set.

        >>> Source(texts=("data/sotu 1980.txt",)).title
        'sotu-1980'
        >>> Source(dataset=Dataset(id="Salesforce/wikitext", name="wikitext-2-raw-v1")).title
        'wikitext-wikitext-2-raw-v1'
        >>> Source(builtin="general/code").title
        'general-code'
        """
        if self.name is not None:
            return self.name
        if self.dataset is not None:
            parts = [PurePath(self.dataset.id).name, *filter(None, [self.dataset.name])]
        elif self.builtin is not None:
            parts = [str(self.builtin)]
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
    general: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    """Calibration: part of the windows that the general text of the package gets; the text named
    above gets the rest. Null: the named text alone; without any, the general text alone."""
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
        if len(given) > 1:
            raise ValueError("give either `texts` or `dataset` or `mix`")
        if self.general is not None and not given:
            raise ValueError("`general` is the part beside a text, and no text is named: omit it")
        if self.mix is not None or self.general is not None:
            _require_names([source.title for source in self.sources])
        return self

    @property
    def named(self) -> bool:
        """Whether it names a text, rather than leaving the choice to the package."""
        return not (self.texts is None and self.dataset is None and self.mix is None)

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources, the general text last.

        >>> corpus = Corpus(texts=("a.txt",), general=0.25)
        >>> [(source.title, source.share) for source in corpus.sources]
        [('a', 0.75), ('general', 0.25)]
        """
        if not self.named:
            return (Source(builtin=GENERAL),)
        own = self.mix or (Source(texts=self.texts, dataset=self.dataset),)
        if self.general is None:
            return own
        shares = [source.share or 1.0 for source in own]
        rest = (1 - self.general) / sum(shares)
        scaled = [
            source.model_copy(update={"share": share * rest})
            for source, share in zip(own, shares, strict=True)
        ]
        return (*scaled, Source(builtin=GENERAL, share=self.general))

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all text files."""
        return tuple(name for source in self.sources for name in source.files)

    def alone(self, source: Source, sequences: int) -> Corpus:
        """The corpus of one of its sources."""
        own = {"texts": source.texts, "dataset": source.dataset, "sequences": sequences}
        field = source.field or self.field
        return self.model_copy(update={**own, "field": field, "mix": None, "general": None})

    def shared(self) -> tuple[int, ...]:
        """Windows of each of `sources`, `sequences` in total: by largest remainder, the first of
        equal remainders first.

        >>> sources = [{"texts": ["a"], "share": 0.4}, {"texts": ["b"], "share": 0.6}]
        >>> Corpus.model_validate({"mix": sources, "sequences": 8}).shared()
        (3, 5)
        """
        shares = [source.share or 1.0 for source in self.sources]
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
                f"{times} sources are called `{name}`: give each its own `name` in `mix`"
            )
        if name in AGGREGATES:
            raise ValueError(f"no source of `mix` may be called `{name}`: give it another `name`")
