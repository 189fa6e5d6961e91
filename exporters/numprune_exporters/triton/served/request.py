"""What one client asks for, checked: a wrong value is an error of that request alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import InputError


@dataclass(frozen=True)
class Request:
    """A prompt and how it is continued. Names are those of the tensors clients send."""

    text_input: str
    max_tokens: int
    """How many tokens to generate at most."""
    temperature: float = 0.0
    """0 is greedy."""
    top_k: int = 0
    """Sample from the k most likely tokens; 0: from all."""
    top_p: float = 1.0
    """Sample from the fewest most likely tokens whose probabilities reach p; 1: from all."""
    seed: int | None = None
    """Makes sampling repeatable; None: another text each time."""
    stop_words: tuple[str, ...] = ()
    """The text ends before the first of these."""
    stream: bool = False
    """A response for each piece of text instead of one with all of it."""
    exclude_input_in_output: bool = True
    """False: the prompt comes first in `text_output`."""


def read(values: Mapping[str, Any], *, max_tokens: int) -> Request:
    """A request from tensors and parameters by name; `max_tokens` is for those that say none.

    Without `temperature` a request is greedy, unless `top_k` or `top_p` asks for sampling: then
    the temperature is 1.

    Raises:
        InputError: an unknown name, a missing prompt, or a value that cannot be meant.
    """
    unknown = sorted(values.keys() - _READERS.keys())
    if unknown:
        raise InputError(
            f"unknown parameter `{unknown[0]}`", hint=f"known: {', '.join(sorted(_READERS))}"
        )
    if "text_input" not in values:
        raise InputError("`text_input` is missing", hint="send the prompt as `text_input`")
    found = {name: _READERS[name](name, value) for name, value in values.items()}
    sampled = found.get("top_k", 0) > 0 or found.get("top_p", 1.0) < 1
    return Request(**{"max_tokens": max_tokens, "temperature": float(sampled), **found})


def _text(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InputError(f"`{name}` is not UTF-8", hint="encode text as UTF-8") from None
    if isinstance(value, str):
        return value
    raise _wrong(name, value, "give a string")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    found = tuple(_text(name, one) for one in (value if isinstance(value, list) else [value]))
    if "" in found:
        raise _wrong(name, "", "give strings that are not empty")
    return found


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(name, value, "give true or false")


def _integer(low: int, high: int) -> Callable[[str, Any], int]:
    def read_integer(name: str, value: Any) -> int:
        whole = isinstance(value, int | float) and not isinstance(value, bool)
        if whole and math.isfinite(value) and int(value) == value and low <= value <= high:
            return int(value)
        raise _wrong(name, value, f"give a whole number from {low} to {high}")

    return read_integer


def _number(accepts: Callable[[float], bool], hint: str) -> Callable[[str, Any], float]:
    def read_number(name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and accepts(value):
            return float(value)
        raise _wrong(name, value, hint)

    return read_number


def _wrong(name: str, value: Any, hint: str) -> InputError:
    return InputError(f"`{name}` cannot be `{value}`", hint=hint)


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "text_input": _text,
    "max_tokens": _integer(1, 2**31 - 1),
    "temperature": _number(lambda value: value >= 0, "give a number from 0, which is greedy"),
    "top_k": _integer(0, 2**31 - 1),
    "top_p": _number(lambda value: 0 < value <= 1, "give a number above 0 and up to 1"),
    "seed": _integer(0, 2**64 - 1),
    "stop_words": _texts,
    "stream": _flag,
    "exclude_input_in_output": _flag,
}
