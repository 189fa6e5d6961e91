"""What the builder and the parser say: collected, never printed, and read for the reason of a failure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import DeviceError, NumpruneError, RecipeError

_LONGEST = 400
_PLACE = re.compile(r"\s*\(?In \S+ at /_src/.*$", re.DOTALL)
"""Where in the library's own source it happened."""
_WRAPPING = re.compile(
    r"^(?:\[\S+\] |\S+: )?Error Code \d+: (?:Internal Error|([\w ]+)) \((?:\[[^\]]*\] )?"
)


@dataclass(frozen=True)
class Message:
    """One message of severity warning or worse."""

    error: bool
    text: str


def collector(module: Any) -> Any:
    """An ILogger that hands warnings and errors to whoever listens."""

    class Collector(module.ILogger):  # type: ignore[misc]
        """`listeners`: lists that get each message."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: list[list[Message]] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= module.ILogger.WARNING:
                heard = Message(severity <= module.ILogger.ERROR, shortened(text))
                for one in self.listeners:
                    one.append(heard)

    return Collector()


def shortened(text: str) -> str:
    """What was said, in one line.

    >>> shortened("IBuilder::build: Error Code 1: Myelin ([pass.cpp:7: run] No FP32.  In f at /_src/g")
    'Myelin: No FP32.'
    >>> shortened("[api.cpp::check::9] Error Code 3: Internal Error (bad  name)")
    'bad name'
    """
    said = _WRAPPING.sub(lambda found: f"{found[1]}: " if found[1] else "", _PLACE.sub("", text))
    line = " ".join(said.split())
    if said != text and line.endswith(")") and line.count(")") > line.count("("):
        line = line[:-1]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def reason(heard: Sequence[Message]) -> str:
    """The first error; what follows it is mostly its consequences."""
    errors = [one.text for one in heard if one.error] or [one.text for one in heard]
    return errors[0] if errors else "the builder gave no reason"


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
"""Of the GPU; the last two of the host, as the builder says it."""
_WORKSPACE = ("within workspace limit", "insufficient workspace")


def not_the_graph(heard: Sequence[Message], *, title: str, target: str) -> NumpruneError | None:
    """The error to raise where a build failed for a reason that no other graph would cure."""
    said = "\n".join(one.text for one in heard)
    if any(one in said for one in _WORKSPACE):
        return RecipeError(
            f"`targets.{target}.workspace_mib` is too small: {reason(heard)}",
            hint="raise it, or leave it out",
        )
    if any(one in said for one in _MEMORY):
        return DeviceError(
            f"{title} ran out of memory while building: {reason(heard)}",
            hint="lower the largest sizes of the profiles, set `workspace_mib`, or use a larger machine",
        )
    if any(one in said for one in (*_DRIVER, *_NO_DEVICE)):
        return DeviceError(
            f"{title} found no GPU it can use while building: {reason(heard)}",
            hint="run on a machine with an NVIDIA GPU, and update its driver",
        )
    return None
