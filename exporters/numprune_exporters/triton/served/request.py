"""Parse and check one request; a wrong value is an error of that request only."""

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
    """A prompt and its generation settings. Field names are the names of the request's tensors."""

    text_input: str
    max_tokens: int
    """Most tokens to generate."""
    temperature: float = 0.0
    """0 is greedy."""
    top_k: int = 0
    """Sample from the k most likely tokens; 0: from all."""
    top_p: float = 1.0
    """Sample from the fewest most likely tokens whose probabilities reach p; 1: from all."""
    seed: int | None = None
    """Seed of the sampling; None: different text each time."""
    stop_words: tuple[str, ...] = ()
    """The text ends before the first stop word."""
    stream: bool = False
    """Send one response per piece of text instead of one response at the end."""
    exclude_input_in_output: bool = True
    """False: `text_output` starts with the prompt."""


def read(values: Mapping[str, Any], *, max_tokens: int) -> Request:
    """A request from tensors and parameters by name.

    Without `temperature` a request is greedy, unless `top_k` or `top_p` is set: then the
    temperature is 1.

    Args:
        values: Tensors and parameters by name.
        max_tokens: Default for a request without `max_tokens`.

    Raises:
        InputError: an unknown name, a missing prompt, or an invalid value.
    """
    unknown = sorted(values.keys() - _READERS.keys())
    if unknown:
        raise InputError(
            f"unknown parameter `{_shown(unknown[0])}`",
            hint=f"known: {', '.join(sorted(_READERS))}",
        )
    if "text_input" not in values:
        raise InputError("`text_input` is missing", hint="send the prompt as `text_input`")
    fields = {name: _READERS[name](name, value) for name, value in values.items()}
    sampled = fields.get("top_k", 0) > 0 or fields.get("top_p", 1.0) < 1
    return Request(**{"max_tokens": max_tokens, "temperature": float(sampled), **fields})


def parameters(text: str) -> dict[str, Any]:
    """Request parameters from JSON, by name; an empty `text` has none.

    Raises:
        InputError: `text` is not a JSON object.
    """
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise InputError("the parameters are not JSON", hint="send a JSON object") from None
    if not isinstance(content, dict):
        raise InputError("the parameters are not a JSON object", hint="send them by name")
    return content


def single(name: str, shape: Sequence[int], values: Any) -> Any:
    """The value of a request's tensor.

    Args:
        name: Name of the tensor.
        shape: (1, 1); (1, n) for `stop_words`.
        values: Its elements as nested lists.

    Raises:
        InputError: the tensor has another shape.
    """
    if len(shape) != 2 or shape[0] != 1:
        raise InputError(
            f"`{name}` has the shape `{list(shape)}`",
            hint="send one prompt per request, in two dimensions with the first equal to 1",
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
        # A text from JSON may contain an unpaired surrogate, which cannot be encoded.
        return value.decode() if isinstance(value, bytes) else value.encode().decode()
    except UnicodeError:
        raise InputError(f"`{name}` is not UTF-8", hint="encode text as UTF-8") from None


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = tuple(_text(name, text) for text in (value if isinstance(value, list) else [value]))
    if "" in texts:
        raise _wrong(name, "", "give non-empty strings")
    return texts


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
    """A client's value, shortened and encodable, for a message."""
    try:
        text = str(value)
    except ValueError:  # Python converts no integer of more than 4300 digits
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
