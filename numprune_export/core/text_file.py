"""Read text files in UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""

from __future__ import annotations

import codecs
import stat
from pathlib import Path

from numprune_export.core.errors import InputError
from numprune_export.core.file_kind import no_text

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONVERT = "save the file as UTF-8, for example with `iconv -f {} -t UTF-8`"


def read(path: Path) -> str:
    """Read a text file; line ends become `\\n`, and the byte order mark is removed.

    The encoding is UTF-8 unless the file starts with the byte order mark of UTF-16 or UTF-32.

    Raises:
        InputError: the file is not regular, not readable, or not text in its encoding.
    """
    content = read_bytes(path)
    kind = no_text(path, content[:128])
    if kind is not None:
        raise InputError(f"`{path}` is {kind.name}", hint=kind.hint)
    return decoded(path, content).replace("\r\n", "\n").replace("\r", "\n")


def read_filled(path: Path) -> str:
    """Like `read`, but an empty file is an error.

    Raises:
        InputError: as in `read`, or the file is empty or only white space.
    """
    text = read(path)
    if not text.strip():
        raise InputError(f"`{path}` holds no text", hint="give a file with text in it")
    return text


def read_bytes(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        InputError: the path is a folder, a pipe or a device (whose content may be endless), or is
            not readable.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read `{path}`: {reason}", hint="check the path") from None
    what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise InputError(f"`{path}` is {what}, not a file", hint="give the path of a regular file")


def encoding_of(content: bytes) -> str:
    """The encoding named by the byte order mark; UTF-8 without a mark."""
    return next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")


def decoded(path: Path, content: bytes) -> str:
    """Decode the content of the file `path`; the byte order mark is removed.

    Raises:
        InputError: the content is not valid in the encoding given by `encoding_of`.
    """
    encoding = encoding_of(content)
    # ASCII text in UTF-16 is also valid UTF-8, with a NUL next to each letter.
    if encoding == "utf-8" and content[:4096].count(0) * 4 > len(content[:4096]):
        raise InputError(
            f"`{path}` is binary, or UTF-16 without a byte order mark",
            hint=_CONVERT.format("UTF-16"),
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"line {line} of `{path}` is not {encoding.removesuffix('-sig').upper()} text:"
            f" byte 0x{content[error.start]:02x}",
            hint=_CONVERT.format("WINDOWS-1252"),
        ) from None
