"""Timing cache: kernel timings kept across builds, in a file with a checksum."""

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
"""The text, 64 hexadecimal digits, a newline."""


def read(path: Path) -> bytes:
    """The serialized cache in a file; empty if the file does not exist.

    A file without our header is used unchanged: trtexec writes such files.

    Raises:
        InputError: the file is unreadable or damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(
            f"cannot read the timing cache `{path}`: {error.strerror}",
            hint="set another `timing_cache`, or null",
        ) from None
    if not content.startswith(_HEADER):
        return content
    digest, body = content[len(_HEADER) : _HEADER_BYTES - 1], content[_HEADER_BYTES:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise _unusable(path, "it is damaged: its sha256 differs")
    return body


def write(path: Path, body: bytes) -> None:
    """Replace the file atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(_HEADER + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write the timing cache `{path}`: {error.strerror}",
            hint="set another `timing_cache`, or null",
        ) from None


def attach(toolkit: Toolkit, config: Any, path: Path) -> None:
    """Use the file's timings in a build.

    Raises:
        InputError: the file is damaged, or belongs to another version or GPU.
    """
    body = read(path)
    with toolkit.listening() as messages:
        cache = config.create_timing_cache(body)
        # For an unusable cache TensorRT creates an empty one and warns.
        if cache is None or (body and messages) or not config.set_timing_cache(cache, False):
            raise _unusable(path, f"{toolkit.title} refuses it: {reason(messages)}")


def save(config: Any, path: Path) -> None:
    """Write a build's timings to the file."""
    write(path, bytes(memoryview(config.get_timing_cache().serialize())))


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        f"the timing cache `{path}` cannot be used: {why}",
        hint="delete it: the next build writes a new one",
    )
