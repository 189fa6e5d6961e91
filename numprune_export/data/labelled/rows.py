"""Rows of labelled data from JSONL, CSV, SQuAD's JSON, or a `datasets` id; each knows its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.core.paths import existing
from numprune_export.data import corpus
from numprune_export.data.labelled.settings import LabelledData


@dataclass(frozen=True)
class Row:
    """One example as it stands in the data."""

    fields: Mapping[str, Any]
    place: str
    """For messages: `line 3 of `a.jsonl``."""

    def get(self, name: str) -> Any:
        """The field `name`.

        Raises:
            InputError: the row has none.
        """
        if name not in self.fields:
            known = ", ".join(f"`{one}`" for one in self.fields)
            raise InputError(
                f"{self.place} has no field `{name}`",
                hint=f"it has {known}; name the right one in the recipe"
                if known
                else "mend the line",
            )
        return self.fields[name]


def read(data: LabelledData, search: Sequence[Path]) -> list[Row]:
    """The rows asked for, the same for equal seeds, in their order in the data.

    Raises:
        InputError: a file is missing or unreadable, or there are fewer rows than asked for or than
            one batch takes.
        HubError: the data set cannot be fetched.
    """
    if data.dataset is not None:
        fetched = corpus.fetch(data.dataset)
        drawn = _drawn(data, len(fetched), f"data set `{data.dataset.id}` holds")
        return [
            Row(_named_labels(fetched, row), f"row {index} of data set `{data.dataset.id}`")
            for index, row in zip(drawn, fetched.select(drawn), strict=True)
        ]
    rows = [row for name in data.files or () for row in _file(name, search)]
    return [rows[index] for index in _drawn(data, len(rows), "the labelled data holds")]


def _drawn(data: LabelledData, available: int, holds: str) -> list[int]:
    asked = data.sequences or max(available, data.batch)
    if available < asked:
        raise InputError(
            f"{holds} {available} examples, fewer than "
            + (f"the {asked} asked for" if data.sequences else f"one batch of {data.batch}"),
            hint="give more examples, or ask for fewer with `sequences` and `batch`",
        )
    if data.sequences is None:
        return list(range(available))
    order = np.random.default_rng(data.seed).permutation(available)[: data.sequences]
    return sorted(int(index) for index in order)


def _named_labels(fetched: Any, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with class numbers replaced by the data set's own names for them.

    The names are kept beside the numbers: only a model that knows them can tell which it means.
    """
    named = dict(row)
    for column, feature in fetched.features.items():
        inner = getattr(feature, "feature", feature)
        names = getattr(inner, "names", None)
        if names is not None:
            named[column] = _name(row[column], names)
    return named


@dataclass(frozen=True)
class NamedClass:
    """A class by its number in a data set and the name that the data set gives it."""

    number: int
    name: str


def _name(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_name(one, names) for one in value]
    # The hub's convention for a hidden label is -1, which has no name.
    return NamedClass(value, names[value]) if isinstance(value, int) and value >= 0 else value


def _file(name: str, search: Sequence[Path]) -> Iterator[Row]:
    path = existing(name, search, kind="data file")
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".json": _squad}
    if path.suffix not in readers:
        raise InputError(
            f"`{path}` is not labelled data by its name",
            hint=f"give a file that ends in {', '.join(readers)}",
        )
    yield from readers[path.suffix](path, corpus.read_text(path).removeprefix("\ufeff"))


def _jsonl(path: Path, text: str) -> Iterator[Row]:
    # Not splitlines: JSON strings may hold the other characters that it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise InputError(
                f"line {number} of `{path}` is not a JSON object", hint="mend the line"
            )
        yield Row(fields, f"line {number} of `{path}`")


def _csv(path: Path, text: str) -> Iterator[Row]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            if None in fields or None in fields.values():
                raise InputError(
                    f"line {reader.line_num} of `{path}` has not as many values as the header",
                    hint="mend the line; text with commas or line breaks needs quotes",
                )
            yield Row(fields, f"line {reader.line_num} of `{path}`")
    except csv.Error as error:
        raise InputError(
            f"line {reader.reader.line_num} of `{path}` is not CSV: {error}", hint="mend the line"
        ) from None


def _squad(path: Path, text: str) -> Iterator[Row]:
    """SQuAD 1 and 2 as published: articles, their paragraphs, their questions."""
    try:
        for article in json.loads(text)["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield _question(path, paragraph["context"], question)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"`{path}` is not SQuAD's JSON: {type(error).__name__} {error}",
            hint="give the published file, or JSONL with question, context and answers",
        ) from None


def _question(path: Path, context: str, question: Mapping[str, Any]) -> Row:
    fields = {"id": question["id"], "question": question["question"], "context": context}
    if "answers" in question:
        fields["answers"] = {
            "text": [one["text"] for one in question["answers"]],
            "answer_start": [one["answer_start"] for one in question["answers"]],
        }
    return Row(fields, f"question `{question['id']}` of `{path}`")
