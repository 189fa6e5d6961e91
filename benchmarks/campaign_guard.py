"""Runs one input in a forked child: its outcome, its limits, and an audit hook on what it does.

A forked child has the libraries loaded, and nothing that an input leaves behind reaches the next one.
The hook sees what Python does (PEP 578); native code is not seen.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import click
import psutil

from numprune_export.core.errors import NumpruneError

Kind = Literal["ok", "refused", "traceback", "hang", "escape"]
Job = Callable[[], object]
EXTRA_MEMORY = 4 << 30
"""Bytes of address space that an input may add."""
CPU_S = 20.0
"""Processor time of an input, after which it counts as a hang."""
STILL_S = 30.0
"""A child that uses no processor time for so long waits for something that never comes."""
SHOWN = 300
_OURS = ("numprune_export", "numprune_exporters")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGED: dict[str, tuple[tuple[int, int], ...]] = {
    "os.chmod": ((0, 2),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
}
"""Event to the positions of each path that it changes and of the folder that the path starts in."""
_STARTING = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}
_REACHING = {"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"}


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    kind: Kind
    cause: str = ""
    """Equal for inputs that fail in the same way: the exception, and where it was raised."""
    detail: str = ""
    """The message, shortened."""


def guarded(job: Job, *, allowed: Sequence[Path], cpu_s: float = CPU_S) -> Outcome:
    """Run `job` in a forked child, in the first allowed folder.

    Args:
        job: Returns, or raises what the package raises for the input.
        allowed: Folders that it may write to.
        cpu_s: Limit of processor time, in seconds.
    """
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _become(job, allowed, cpu_s, send)
    os.close(send)
    try:
        told, still = _listen(receive, child)
    finally:
        os.close(receive)
        os.kill(child, signal.SIGKILL)  # a zombie by now, unless it hangs
        _, status = os.waitpid(child, 0)
    if told:
        return Outcome(**json.loads(told))
    if still:
        return Outcome("hang", f"no processor time for {STILL_S:g} s")
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return Outcome("hang", f"{cpu_s:g} s of processor time")
    ended = f"ended by {signal.Signals(number).name}" if number else "ended its process"
    return Outcome("traceback", ended)


def _listen(receive: int, child: int) -> tuple[bytes, bool]:
    """All that the child says, and whether it stood still."""
    told, used = b"", -1.0
    while True:
        if select.select([receive], [], [], STILL_S)[0]:
            piece = os.read(receive, 1 << 16)
            if not piece:
                return told, False
            told += piece
            continue
        times = psutil.Process(child).cpu_times()
        if times.user + times.system == used:
            return told, True
        used = times.user + times.system


def _become(job: Job, allowed: Sequence[Path], cpu_s: float, send: int) -> NoReturn:
    try:
        _quieten(allowed[0])
        _limit(cpu_s)
        escapes = _watch([path.resolve() for path in allowed])
        outcome = outcome_of(job)
        if escapes:
            outcome = replace(
                outcome, kind="escape", cause=escapes[0], detail="; ".join(escapes[:5])
            )
        os.write(send, json.dumps(asdict(outcome)).encode())
    finally:
        os._exit(0)


def _quieten(folder: Path) -> None:
    empty = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(empty, descriptor)
    sys.dont_write_bytecode = True
    os.chdir(folder)


def _limit(cpu_s: float) -> None:
    times = os.times()
    seconds = int(times.user + times.system + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    size = psutil.Process().memory_info().vms + EXTRA_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def outcome_of(job: Job) -> Outcome:
    """Run the job here. An error without a message, a hint or an exit code counts as a traceback."""
    try:
        job()
    except NumpruneError as error:
        complete = str(error) and error.hint and error.exit_code
        return Outcome("refused" if complete else "traceback", _cause(error), _shown(error))
    except click.UsageError as error:
        return Outcome("refused", "UsageError", _shown(error))
    except BaseException as error:
        return Outcome("traceback", _cause(error), _shown(error))
    return Outcome("ok")


def _cause(error: BaseException) -> str:
    """The class of an exception, and the innermost function of this package that it passed."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in _OURS:
            return f"{type(error).__name__} in {module}.{frame.f_code.co_name}"
    return type(error).__name__


def _shown(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception as problem:
        text = f"its text: {problem!r}"
    return text[:SHOWN].encode(errors="backslashreplace").decode()


def _watch(allowed: Sequence[Path]) -> list[str]:
    """Add the audit hook.

    Returns:
        The list that it fills with what leaves the allowed folders.
    """
    escapes: list[str] = []
    roots = tuple(f"{path}/" for path in allowed)

    def inside(path: object, folder: object = -1) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a descriptor that was opened before
        known = isinstance(folder, int) and folder >= 0
        start = Path(f"/proc/self/fd/{folder}").readlink() if known else Path()
        place = os.path.realpath(os.path.join(start, os.fsdecode(path)))  # noqa: PTH118
        return f"{place}/".startswith(roots) or place == os.devnull

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and given[2] & _WRITING and not inside(given[0]):
            escapes.append(f"writes {given[0]}")
        elif event in _CHANGED:
            escapes.extend(
                f"{event} {given[path]}"
                for path, folder in _CHANGED[event]
                if not inside(given[path], given[folder])
            )
        elif event in _STARTING or event in _REACHING:
            escapes.append(f"{event} {given[:2]}"[:SHOWN])
        elif event == "pickle.find_class":
            escapes.append(f"unpickles {given[0]}.{given[1]}")
        elif event == "exec" and f"{given[0].co_filename}".startswith(roots):
            escapes.append(f"runs code of {given[0].co_filename}")

    sys.addaudithook(hook)
    return escapes
