"""What one client asks for, checked: a wrong value is an error of that request alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import InputError

_SHOWN = 80


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
            f"unknown parameter `{_shown(unknown[0])}`",
            hint=f"known: {', '.join(sorted(_READERS))}",
        )
    if "text_input" not in values:
        raise InputError("`text_input` is missing", hint="send the prompt as `text_input`")
    found = {name: _READERS[name](name, value) for name, value in values.items()}
    sampled = found.get("top_k", 0) > 0 or found.get("top_p", 1.0) < 1
    return Request(**{"max_tokens": max_tokens, "temperature": float(sampled), **found})


def parameters(text: str) -> dict[str, Any]:
    """What stands beside a request's tensors, by name; `text` is JSON, empty if there is nothing.

    Raises:
        InputError: it is no JSON object.
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise InputError("the parameters are no JSON", hint="send a JSON object") from None
    if not isinstance(found, dict):
        raise InputError("the parameters are no JSON object", hint="send them by name")
    return found


def single(name: str, shape: Sequence[int], values: Any) -> Any:
    """The value in a tensor of one request.

    Args:
        name: Of the tensor.
        shape: Its dimensions: a batch of one, then one value; any number of stop words.
        values: Its elements as nested lists.

    Raises:
        InputError: it has another shape.
    """
    if len(shape) != 2 or shape[0] != 1:
        raise InputError(
            f"`{name}` has the shape `{list(shape)}`",
            hint="send one prompt in each request, and two dimensions, the first of them 1",
        )
    if name == "stop_words":
        return values[0]
    if shape[1] != 1:
        raise InputError(f"`{name}` has `{shape[1]}` values", hint="send one")
    return values[0][0]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, bytes | str):
        raise _wrong(name, value, "give a string")
    try:
        # A text from JSON may hold half of a surrogate pair, which no encoding has.
        return value.decode() if isinstance(value, bytes) else value.encode().decode()
    except UnicodeError:
        raise InputError(f"`{name}` is not UTF-8", hint="encode text as UTF-8") from None


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
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and low <= value <= high and int(value) == value:
            return int(value)
        raise _wrong(name, value, f"give a whole number from {low} to {high}")

    return read_integer


def _number(accepts: Callable[[float], bool], hint: str) -> Callable[[str, Any], float]:
    def read_number(name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and -sys.float_info.max <= value <= sys.float_info.max and accepts(value):
            return float(value)
        raise _wrong(name, value, hint)

    return read_number


def _wrong(name: str, value: Any, hint: str) -> InputError:
    return InputError(f"`{name}` cannot be `{_shown(value)}`", hint=hint)


def _shown(value: Any) -> str:
    """A client's value as the end of a message can hold it."""
    try:
        text = str(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return "an integer of too many digits"
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return text.encode(errors="backslashreplace").decode()


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
