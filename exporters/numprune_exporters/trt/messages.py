"""Messages of the builder and the parser: collected, and parsed for failure reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import DeviceError, NumpruneError, RecipeError

_LONGEST = 400
_PLACE = re.compile(r"\s*\(?In \S+ at /_src/.*$", re.DOTALL)
"""The location in the library's source."""
_WRAPPING = re.compile(
    r"^(?:\[\S+\] |\S+: )?Error Code \d+: (?:Internal Error|([\w ]+)) \((?:\[[^\]]*\] )?"
)


@dataclass(frozen=True)
class Message:
    """One message of severity warning or worse."""

    error: bool
    text: str


def collector(module: Any) -> Any:
    """An ILogger that appends warnings and errors to its `listeners`."""

    class Collector(module.ILogger):  # type: ignore[misc]
        """`listeners`: lists that receive each message."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: list[list[Message]] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= module.ILogger.WARNING:
                message = Message(severity <= module.ILogger.ERROR, shortened(text))
                for listener in self.listeners:
                    listener.append(message)

    return Collector()


def shortened(text: str) -> str:
    """The text of a message, in one line.

    >>> shortened("IBuilder::build: Error Code 1: Myelin ([pass.cpp:7: run] No FP32.  In f at /_src/g")
    'Myelin: No FP32.'
    >>> shortened("[api.cpp::check::9] Error Code 3: Internal Error (bad  name)")
    'bad name'
    """
    core = _WRAPPING.sub(lambda match: f"{match[1]}: " if match[1] else "", _PLACE.sub("", text))
    line = " ".join(core.split())
    if core != text and line.endswith(")") and line.count(")") > line.count("("):
        line = line[:-1]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def reason(messages: Sequence[Message]) -> str:
    """The first error (later ones are mostly its consequences), else the first warning."""
    texts = [message.text for message in messages if message.error]
    texts = texts or [message.text for message in messages]
    return texts[0] if texts else "the builder gave no reason"


_DRIVER = (
    "cudaError 35",
    "driver version is insufficient",
    "initialization failure with error: 35",
)
_NO_DEVICE = ("cudaError 100", "no CUDA-capable device", "error: 100")
_MEMORY = (
    "out of memory", "OutOfMemory", "cudaError 2 ", "cudaError 2:", "could not be allocated",
    "bad_alloc", "CHECK(p) failed",
)  # fmt: skip
"""Messages about GPU memory; the last two are about host memory."""
_WORKSPACE = ("within workspace limit", "insufficient workspace")


def not_the_graph(messages: Sequence[Message], *, title: str, target: str) -> NumpruneError | None:
    """The error of a build whose failure no other graph would avoid; None: another graph may."""
    text = "\n".join(message.text for message in messages)
    if any(pattern in text for pattern in _WORKSPACE):
        return RecipeError(
            f"`targets.{target}.workspace_mib` is too small: {reason(messages)}",
            hint="raise it, or omit it",
        )
    if any(pattern in text for pattern in _MEMORY):
        return DeviceError(
            f"{title} ran out of memory while building: {reason(messages)}",
            hint="lower the largest sizes of the profiles, set `workspace_mib`, or use a larger machine",
        )
    if any(pattern in text for pattern in (*_DRIVER, *_NO_DEVICE)):
        return DeviceError(
            f"{title} found no GPU for the build: {reason(messages)}",
            hint="run on a machine with an NVIDIA GPU, and update its driver",
        )
    return None
