"""Translate pydantic validation errors into messages in terms of recipe keys and YAML values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

LONGEST = 80
"""Maximum number of characters of a value in a message."""


def key_of(error: Mapping[str, Any]) -> str:
    """The dotted key of a setting: `calibration.relabel.bad`.

    Args:
        error: An item of `ValidationError.errors()`.
    """
    # pydantic appends "[key]" if the mapping's key itself is invalid.
    return ".".join(str(part) for part in error["loc"] if part != "[key]")


def problem_of(error: Mapping[str, Any]) -> str:
    """The problem, followed by the value: "must be a number (got `yes`)".

    Args:
        error: An item of `ValidationError.errors()`.
    """
    kind, context = error["type"], error.get("ctx") or {}
    phrase = _PHRASES.get(kind)
    if phrase is None and kind in _COMPARISONS:
        bound = next(iter(context.values()))
        limit = f"{bound:g}" if isinstance(bound, float) else str(bound).replace("'", "`")
        phrase = f"must be {_COMPARISONS[kind]} {limit}"
    if phrase is None and kind in _LENGTHS:
        phrase = _LENGTHS[kind](context)
    if phrase is None:
        message = str(error["msg"]).removeprefix("Value error, ")
        phrase = message[0].lower() + message[1:]
    return phrase + _got(error)


def _got(error: Mapping[str, Any]) -> str:
    if error["type"] in ("missing", "value_error", "extra_forbidden"):
        return ""
    value = error["input"]
    if not (value is None or isinstance(value, str | int | float | bool)):
        return f" (got {_KINDS.get(type(value), 'something else')})"
    text = value if isinstance(value, str) else json.dumps(value)
    return f" (got `{text if len(text) <= LONGEST else text[:LONGEST] + '…'}`)"


_KINDS: dict[type, str] = {dict: "a mapping", list: "a list", tuple: "a list"}
_NUMBER = "must be a number"
_WHOLE = "must be a whole number"
_TRUTH = "must be `true` or `false`"
_LIST = "must be a list, `[...]`"
_MAPPING = "must be a mapping, `{...}`"
_TEXT = "must be text; put it in quotes"
_PHRASES = {
    "missing": "is missing",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "must be a whole number of fewer digits",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": _TEXT,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "mapping_type": _MAPPING,
    "dataclass_type": _MAPPING,
    "none_required": "must be left out, or `null`",
    "recursion_loop": "must not hold itself",
}
_COMPARISONS = {
    "greater_than": "greater than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
    "multiple_of": "a multiple of",
    "literal_error": "one of",
    "enum": "one of",
}


def _items(count: int) -> str:
    return f"{count} item" if count == 1 else f"{count} items"


_LENGTHS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "too_short": lambda context: f"must have at least {_items(context['min_length'])}",
    "too_long": lambda context: f"must have at most {_items(context['max_length'])}",
    "string_too_short": lambda context: f"must have at least {context['min_length']} characters",
    "string_too_long": lambda context: f"must have at most {context['max_length']} characters",
}
