"""Conversion of labels in the data to class numbers or regression targets."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.core.paths import shortened
from numprune_export.data.labelled.rows import NamedClass
from numprune_export.data.row_file import Row

_UNNAMED = re.compile(r"LABEL_\d+")
_NUMBER = re.compile(r"\s*-?\d+(\.0+)?\s*", re.ASCII)
_DIGITS = 18
"""Most digits of a label that may be a class number."""
_UNLABELLED = "-1 marks a hidden label: give a split with labels"


@dataclass(frozen=True)
class Classes:
    """Names of the model's classes, by class number."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, config: Any) -> Classes:
        """From a transformers config.

        Raises:
            InputError: the classes are not numbered from 0.
        """
        names = config.id2label
        missing = next((index for index in range(config.num_labels) if index not in names), None)
        if missing is not None:
            raise InputError(
                f"config.json names {config.num_labels} classes, but none with number {missing}",
                hint="number the classes in `id2label` from 0",
            )
        return cls(tuple(str(names[index]) for index in range(config.num_labels)))

    @property
    def unnamed(self) -> bool:
        """Whether all names are defaults of transformers: `LABEL_0`, `LABEL_1` and so on."""
        return all(_UNNAMED.fullmatch(name) for name in self.names)

    def number(self, label: Any, place: str, relabel: Mapping[str, int] | None = None) -> int:
        """The class number of a label: a number, a number as text, or a class name of the model.

        Names are compared without case. A class name of the data set that the model does not have
        is an error, unless the model's classes have default names only.

        Args:
            label: The label in the data.
            place: Source for messages.
            relabel: Class numbers by the data's label names or numbers.

        Raises:
            InputError: the model has no such class; the message begins with `place`.
        """
        known = relabel or {}
        number = next((known[text] for text in _texts(label) if text in known), None)
        if number is None:
            number = self._number(label, place)
        if not 0 <= number < len(self.names):
            raise self._outside(place, str(number), hidden=number == -1)
        return number

    def _number(self, label: Any, place: str) -> int:
        if isinstance(label, NamedClass):
            return self._of_data_set(label, place)
        if isinstance(label, str):
            index = self._index(label, place)
            if index is not None:
                return index
        number = self._counted(label, place)
        if number is None:
            raise InputError(
                f"{place}: the model has no class `{_shown(label)}`",
                hint=self._nearest(_texts(label)[0]),
            )
        if self._index(str(number), place) not in (None, number):
            raise InputError(
                f"{place}: label `{number}` is ambiguous: one class has this name,"
                " another this number",
                hint="`relabel` maps the data's labels to class numbers",
            )
        return number

    def _counted(self, label: Any, place: str) -> int | None:
        """The label as an integer, if it is a number or a number as text; else None."""
        if isinstance(label, str):
            if not _NUMBER.fullmatch(label):
                return None
            digits = label.strip().partition(".")[0]
            if len(digits) > _DIGITS:
                raise self._outside(place, _shown(label))
            return int(digits)
        if isinstance(label, bool) or not isinstance(label, int | float):
            return None
        if isinstance(label, float) and not label.is_integer():
            return None
        return int(label)

    def _index(self, name: str, place: str) -> int | None:
        """The class with this name, ignoring case and outer blanks if there is no exact match."""
        if name in self.names:
            return self.names.index(name)
        plain = name.strip().casefold()
        similar = [index for index, own in enumerate(self.names) if own.strip().casefold() == plain]
        if len(similar) > 1:
            raise InputError(
                f"{place}: label `{_shown(name)}` is ambiguous: it matches the classes "
                + ", ".join(f"`{self.names[index]}`" for index in similar),
                hint="`relabel` maps the data's names to class numbers",
            )
        return similar[0] if similar else None

    def _of_data_set(self, label: NamedClass, place: str) -> int:
        index = self._index(label.name, place)
        if index is not None:
            return index
        if self.unnamed or label.name == str(label.number):
            return label.number
        raise InputError(
            f"{place}: the model has no class `{label.name}`, the data set's name of class"
            f" {label.number}",
            hint=self._nearest(label.name),
        )

    def _outside(self, place: str, label: str, *, hidden: bool = False) -> InputError:
        return InputError(
            f"{place}: label `{shortened(label)}` is outside the model's {len(self.names)} classes",
            hint=_UNLABELLED if hidden else f"labels go from 0 to {len(self.names) - 1}",
        )

    def _nearest(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.names, n=1)
        shown = ", ".join(f"`{own}`" for own in self.names[:10])
        more = ", ..." if len(self.names) > 10 else ""
        return (
            f"did you mean `{close[0]}`? `relabel` maps the data's names to class numbers"
            if close
            else f"the model's classes: {shown}{more}; `relabel` maps the data's names to their numbers"
        )


def _texts(label: Any) -> tuple[str, ...]:
    """The keys of a label that `relabel` may use."""
    if isinstance(label, NamedClass):
        return label.name, str(label.number)
    if isinstance(label, bool):
        return (str(label).lower(),)
    return (str(label),)


def _shown(label: Any) -> str:
    return shortened(_texts(label)[0])


def target_number(label: Any, place: str, scale: float = 1.0) -> float:
    """The target of a regression: the label divided by `scale`, finite in fp32.

    Raises:
        InputError: the label is not such a number.
    """
    try:
        value = math.nan if isinstance(label, bool) else float(label) / scale
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise InputError(
            f"{place}: label `{_shown(label)}` is not a number or is too large, but the model"
            " predicts a number",
            hint="fix the label, or give a model with classes",
        )
    return value


_LARGEST = float(np.finfo(np.float32).max)


def of(row: Row, field: str) -> Any:
    """A row's label, unconverted.

    Raises:
        InputError: the row has no label.
    """
    label = row.fields.get(field)
    if label is None or (isinstance(label, str) and not label.strip()):
        raise InputError(
            f"{row.place} has no label under `{field}`",
            hint="label the row, leave it out, or name the right field with `label`: the row has "
            + ", ".join(f"`{name}`" for name in row.fields),
        )
    return label
