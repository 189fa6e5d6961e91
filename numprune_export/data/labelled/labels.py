"""A label as the data has it to what the model counts with: a class number, or a number."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import InputError
from numprune_export.data.labelled.rows import NamedClass, Row


@dataclass(frozen=True)
class Classes:
    """The model's classes by name, in order."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, config: Any) -> Classes:
        """From a transformers config."""
        return cls(tuple(str(config.id2label[index]) for index in range(config.num_labels)))

    def number(self, label: Any, place: str, relabel: Mapping[str, int] | None = None) -> int:
        """The class number of a label: a number, a number as text, or a name of this model's.

        Raises:
            InputError: the model has no such class; the message begins with `place`.
        """
        found = None if relabel is None else relabel.get(_text(label))
        if found is None:
            found = self._number(label, place)
        if not 0 <= found < len(self.names):
            raise InputError(
                f"{place}: label `{_text(label)}` is outside the model's {len(self.names)} classes",
                hint=_UNLABELLED if found == -1 else f"labels go from 0 to {len(self.names) - 1}",
            )
        return found

    def _number(self, label: Any, place: str) -> int:
        if isinstance(label, NamedClass):
            return self.names.index(label.name) if label.name in self.names else label.number
        if isinstance(label, int) and not isinstance(label, bool):
            return label
        if isinstance(label, float) and label.is_integer():
            return int(label)
        if isinstance(label, str):
            if label in self.names:
                return self.names.index(label)
            if label.strip().removeprefix("-").isdecimal():
                return int(label)
        raise InputError(
            f"{place}: the model has no class `{_text(label)}`", hint=self._nearest(_text(label))
        )

    def _nearest(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.names, n=1)
        shown = ", ".join(f"`{one}`" for one in self.names[:10])
        more = ", ..." if len(self.names) > 10 else ""
        return (
            f"did you mean `{close[0]}`?"
            if close
            else f"its classes: {shown}{more}; `relabel` maps the data's names to their numbers"
        )


_UNLABELLED = "-1 stands for a hidden label: give a split that has labels"


def _text(label: Any) -> str:
    return str(label.number) if isinstance(label, NamedClass) else str(label)


def target_number(label: Any, place: str) -> float:
    """The number that a regression should give.

    Raises:
        InputError: it is not a finite number.
    """
    try:
        value = math.nan if isinstance(label, bool) else float(label)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{place}: label `{label}` is not a number, which this model predicts",
            hint="mend the label, or give a model with classes",
        )
    return value


def of(row: Row, field: str) -> Any:
    """A row's label as it stands there.

    Raises:
        InputError: it has none.
    """
    label = row.fields.get(field)
    if label is None or (isinstance(label, str) and not label.strip()):
        raise InputError(
            f"{row.place} has no label under `{field}`",
            hint="label it, leave it out, or name the right field with `label`: it has "
            + ", ".join(f"`{one}`" for one in row.fields),
        )
    return label
