"""Read the rows of labelled data of a recipe, from files or a `datasets` id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numprune_export.core import paths
from numprune_export.core.errors import InputError
from numprune_export.data import hub_rows, row_file
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.row_file import Row


def read(data: LabelledData, search: Sequence[Path]) -> list[Row]:
    """Draw the configured number of rows, in data order; equal for equal seeds.

    Raises:
        InputError: a file is missing or unreadable, or there are fewer rows than `sequences` or
            than one batch.
        HubError: the data set cannot be loaded.
    """
    if data.dataset is not None:
        fetched = hub_rows.fetch(data.dataset)
        drawn = _drawn(data, len(fetched), f"data set `{data.dataset.id}` holds")
        return [
            Row(_named_labels(fetched, row), f"row {index} of data set `{data.dataset.id}`")
            for index, row in zip(drawn, fetched.select(drawn), strict=True)
        ]
    rows = [row for name in data.files or () for row in _file(name, search)]
    return [rows[index] for index in _drawn(data, len(rows), "the labelled data holds")]


def _drawn(data: LabelledData, available: int, holds: str) -> list[int]:
    needed = data.sequences or max(available, data.batch)
    if available < needed:
        raise InputError(
            f"{holds} {available} examples, fewer than "
            + (f"the {needed} requested" if data.sequences else f"one batch of {data.batch}"),
            hint="give more examples, or lower `sequences` and `batch`",
        )
    if data.sequences is None:
        return list(range(available))
    order = np.random.default_rng(data.seed).permutation(available)[: data.sequences]
    return sorted(int(index) for index in order)


def _named_labels(fetched: Any, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with class numbers replaced by `NamedClass`, which adds the data set's class names.

    Names and numbers are both kept: only the model's class names decide which of them applies.
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
    """A class of a data set, by number and name."""

    number: int
    name: str


def _name(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    # On the Hub a hidden label is -1, which has no name.
    return NamedClass(value, names[value]) if isinstance(value, int) and value >= 0 else value


def _file(name: str, search: Sequence[Path]) -> list[Row]:
    path = paths.require(name, search, what="data file")
    if path.suffix.lower() not in row_file.SUFFIXES:
        raise InputError(
            f"`{path}` has no suffix of labelled data",
            hint=f"give a file with one of these suffixes: {', '.join(row_file.SUFFIXES)}",
        )
    return row_file.rows_of(path)
