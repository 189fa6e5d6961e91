"""Files with one example or text per row: JSON Lines, JSON, CSV, TSV."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import InputError
from numprune_export.core.json_text import loads
from numprune_export.core.text_file import read_filled


@dataclass(frozen=True)
class Row:
    """One row of a data file or data set."""

    fields: Mapping[str, Any]
    place: str
    """Source for messages, for example `line 3 of `a.jsonl``."""

    def get(self, name: str) -> Any:
        """The field `name`.

        Raises:
            InputError: the row has no such field.
        """
        if name not in self.fields:
            known = ", ".join(f"`{field}`" for field in self.fields)
            raise InputError(
                f"{self.place} has no field `{name}`",
                hint=f"it has {known}; name the right one in the recipe"
                if known
                else "fix the line",
            )
        return self.fields[name]


def rows_of(path: Path) -> list[Row]:
    """All rows of a file with one of `SUFFIXES`.

    Values in `.csv` may be in double quotes, as in RFC 4180. In `.tsv` quote marks have no meaning.
    `.json` holds an array of objects, JSON Lines, or the articles of SQuAD.

    Raises:
        InputError: the file cannot be read, or a row is invalid; the message names the row.
    """
    return list(_READERS[path.suffix.lower()](path, read_filled(path)))


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    _refuse_array(path, text)
    # Not splitlines: it also splits at characters that JSON strings may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number} of `{path}`"
        try:
            fields = loads(line)
        except ValueError as error:
            raise InputError(f"{place} is not a JSON object: {error}", hint=_ONE_A_LINE) from None
        if not isinstance(fields, dict):
            raise InputError(f"{place} is not a JSON object", hint=_ONE_A_LINE)
        yield Row(fields, place)


_ONE_A_LINE = "write one whole object per line; `jq -c .` writes JSON Lines"


def _refuse_array(path: Path, text: str) -> None:
    if not text.lstrip().startswith("["):
        return
    try:
        content = loads(text)
    except ValueError:
        return
    if isinstance(content, list) and all(isinstance(fields, dict) for fields in content):
        raise InputError(
            f"`{path}` holds one JSON array, not JSON Lines",
            hint="name it `.json`, or write one object per line: `jq -c '.[]'` does so",
        )


def _json(path: Path, text: str) -> Iterator[Row]:
    try:
        content = loads(text)
    except ValueError as error:
        if _begins_json_lines(text):
            return _json_lines(path, text)
        raise InputError(f"`{path}` is not JSON: {error}", hint=_JSON) from None
    if isinstance(content, list):
        return _json_array(path, content)
    if isinstance(content, dict) and "data" in content:
        return _squad(path, content)
    if isinstance(content, dict) and "\n" not in text.strip():
        return iter([Row(content, f"line 1 of `{path}`")])
    raise InputError(f"`{path}` holds neither rows nor SQuAD articles", hint=_JSON)


_JSON = "give an array of objects, JSON Lines (one object per line), or a SQuAD file"


def _begins_json_lines(text: str) -> bool:
    try:
        return isinstance(loads(text.lstrip().partition("\n")[0]), dict)
    except ValueError:
        return False


def _json_array(path: Path, content: Sequence[Any]) -> Iterator[Row]:
    for number, fields in enumerate(content, start=1):
        if not isinstance(fields, dict):
            raise InputError(f"item {number} of `{path}` is not a JSON object", hint=_JSON)
        yield Row(fields, f"item {number} of `{path}`")


def _squad(path: Path, content: Mapping[str, Any]) -> Iterator[Row]:
    """SQuAD 1 and 2 as published: articles, their paragraphs, their questions."""
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield _question(path, paragraph["context"], question)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"`{path}` is not SQuAD JSON: {type(error).__name__} {error}",
            hint="give the published file, or rows with `question`, `context` and `answers`",
        ) from None


def _question(path: Path, context: str, question: Mapping[str, Any]) -> Row:
    fields = {"id": question["id"], "question": question["question"], "context": context}
    if "answers" in question:
        fields["answers"] = {
            "text": [answer["text"] for answer in question["answers"]],
            "answer_start": [answer["answer_start"] for answer in question["answers"]],
        }
    return Row(fields, f"question `{question['id']}` of `{path}`")


_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def _csv(path: Path, text: str) -> Iterator[Row]:
    return _table(path, text, ",", "fix the line; text with commas or line breaks needs quotes")


def _tsv(path: Path, text: str) -> Iterator[Row]:
    hint = "fix the line; `.tsv` has no quoting: use `.csv` for text with tabs or line breaks"
    return _table(path, text, "\t", hint)


def _table(path: Path, text: str, separator: str, hint: str) -> Iterator[Row]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    with _long_values(), _csv_errors(path, reader, hint):
        header = next(values for values in reader if values)
        _check_header(path, header, separator)
        for values in reader:
            if not values:
                continue
            place = f"line {reader.line_num} of `{path}`"
            if len(values) != len(header):
                raise InputError(
                    f"{place} has {len(values)} values, but the header has {len(header)}", hint=hint
                )
            yield Row(dict(zip(header, values, strict=True)), place)


def _check_header(path: Path, header: Sequence[str], separator: str) -> None:
    other = next((mark for mark in _SEPARATORS if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise InputError(
            f"`{path}` is separated by {_SEPARATORS[other]}, not by {_SEPARATORS[separator]}",
            hint="save it as `.csv` with commas, or as `.tsv` with tabs",
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"the header of `{path}` has `{twice}` twice", hint="give each column its own name"
        )


@contextmanager
def _long_values() -> Iterator[None]:
    """Raise the csv module's process-wide limit of 131,072 characters per value."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a C long, of 32 bits on Windows
    try:
        yield
    finally:
        csv.field_size_limit(limit)


@contextmanager
def _csv_errors(path: Path, reader: Any, hint: str) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num} of `{path}` is not CSV: {error}", hint=hint
        ) from None


_READERS = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
}
SUFFIXES = tuple(_READERS)
