"""Rows of a data set, read whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from numprune_export.core.errors import HubError, InputError
from numprune_export.core.foreign import first_line
from numprune_export.core.optional import require
from numprune_export.core.paths import exists
from numprune_export.data.corpus_settings import Dataset, DatasetId
from numprune_export.data.hub_access import reachable_or_offline
from numprune_export.data.row_file import Row


def fetch(dataset: DatasetId) -> Any:
    """The rows of a data set, as a `datasets.Dataset`.

    Raises:
        HubError: the data set cannot be loaded.
        MissingExtraError: `datasets` is not installed.
    """
    datasets = require("datasets", extra="datasets")
    with _loading(dataset):
        return datasets.load_dataset(
            dataset.id, dataset.name, split=dataset.split, revision=dataset.revision
        )


def texts_of(dataset: DatasetId, field: str) -> Iterator[Row]:
    """All rows of a data set, restricted to the field with the text.

    Raises:
        HubError: as `fetch`.
        InputError: there is no such field.
    """
    rows = fetch(dataset)
    if field not in rows.column_names:
        raise InputError(
            f"data set `{dataset.id}` has no column `{field}`",
            hint=f"its columns: {', '.join(rows.column_names)}",
        )
    for index, text in enumerate(rows[field]):
        yield Row({field: text}, f"row {index} of data set `{dataset.id}`")


def streams_in_a_mix(dataset: Dataset) -> bool:
    """Whether a data set in a mix is streamed: as it says, else if it is on the hub."""
    return not exists(Path(dataset.id)) if dataset.stream is None else dataset.stream


class Stream:
    """Rows of a data set in random order, read as they are needed.

    The files are shuffled, then each row is drawn from a buffer of `shuffle_buffer` rows, as
    `datasets.IterableDataset.shuffle` does. Equal seeds give equal rows.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._dataset, self._seed = dataset, seed
        self.rows_read = 0
        """Rows read so far, those in the buffer included."""

    def __iter__(self) -> Iterator[Row]:
        """The rows; from the beginning each time.

        Raises:
            HubError: the data set cannot be read.
            MissingExtraError: `datasets` is not installed.
        """
        datasets, dataset = require("datasets", extra="datasets"), self._dataset
        self.rows_read = 0
        with _loading(dataset) as unreachable:
            if unreachable is not None:  # a cached copy may have other files, so other windows
                raise _refusal(dataset, f"the Hub is unreachable, streams need it: {unreachable}")
            rows = datasets.load_dataset(
                dataset.id,
                dataset.name,
                split=dataset.split,
                revision=dataset.revision,
                streaming=True,
            )
        rows = rows.map(self._counted)
        shuffled = iter(rows.shuffle(seed=self._seed, buffer_size=dataset.shuffle_buffer))
        for number in count(1):
            try:
                fields = next(shuffled, None)
            except MemoryError:
                raise
            except Exception as error:  # of any of the clients and parsers of `datasets`
                raise _refusal(dataset, first_line(error)) from error
            if fields is None:
                return
            yield Row(fields, f"row {number} in the stream of data set `{dataset.id}`")

    def _counted(self, row: dict[str, Any]) -> dict[str, Any]:
        self.rows_read += 1
        return row


@contextmanager
def _loading(dataset: DatasetId) -> Iterator[str | None]:
    """Errors of `datasets` as a HubError; yields the reason why the Hub is unreachable."""
    unreachable = None
    try:
        with reachable_or_offline(dataset.id, dataset.revision) as unreachable:
            yield unreachable
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if unreachable is not None:
            reason = f"the Hub is unreachable and the data set is not cached: {unreachable}"
        raise _refusal(dataset, reason) from None


def _refusal(dataset: DatasetId, reason: str) -> HubError:
    return HubError(
        f"cannot load data set `{dataset.id}`: {reason}",
        hint="check its name, its split and the network, or give local files",
    )
