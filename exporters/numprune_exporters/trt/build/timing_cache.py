"""How long kernels took, kept across builds in a file that proves that it is whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from numprune_export.core.errors import InputError, OutputError
from numprune_exporters.trt.messages import reason
from numprune_exporters.trt.toolkit import Toolkit

_HEADER = b"numprune-export timing cache sha256:"
_HEADER_BYTES = len(_HEADER) + 65
"""The words, 64 hexadecimal digits, a line end."""


def read(path: Path) -> bytes:
    """The serialized cache in a file; empty where there is no file yet.

    A file without our header is taken as it is: trtexec writes such.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(
            f"cannot read the timing cache `{path}`: {error.strerror}",
            hint="give another `timing_cache`, or null",
        ) from None
    if not content.startswith(_HEADER):
        return content
    digest, body = content[len(_HEADER) : _HEADER_BYTES - 1], content[_HEADER_BYTES:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise _unusable(path, "it is damaged: its sha256 differs")
    return body


def write(path: Path, body: bytes) -> None:
    """Replace the file by a whole new one.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(_HEADER + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write the timing cache `{path}`: {error.strerror}",
            hint="give another `timing_cache`, or null",
        ) from None


def attach(toolkit: Toolkit, config: Any, path: Path) -> None:
    """Let a build use the file's timings.

    Raises:
        InputError: the file is damaged, or of another version or GPU.
    """
    body = read(path)
    with toolkit.listening() as heard:
        cache = config.create_timing_cache(body)
        # An unusable cache is answered by an empty one and a warning.
        if cache is None or (body and heard) or not config.set_timing_cache(cache, False):
            raise _unusable(path, f"{toolkit.title} refuses it: {reason(heard)}")


def save(config: Any, path: Path) -> None:
    """Write back what a build has timed."""
    write(path, bytes(memoryview(config.get_timing_cache().serialize())))


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        f"the timing cache `{path}` cannot be used: {why}",
        hint="delete it: it is made anew, and only time is lost",
    )
