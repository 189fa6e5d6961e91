"""Detect files that are not text or weights: git-LFS pointers, web pages, binary formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileKind:
    """A file format, described for an error message: `PATH` is `name`; `hint`."""

    name: str
    hint: str


_POINTER = FileKind(
    "a git-LFS pointer, not the file itself",
    "run `git lfs pull` in its folder, or download the file with `hf download`",
)
_PAGE = FileKind(
    "a web page, not the file itself",
    "download the file with `hf download`; a browser may have saved a page about it",
)
_TABLE = FileKind(
    "a table in a binary format", "save it as JSON Lines (`.jsonl`), or give it as a `dataset`"
)
_PACKED = FileKind("compressed", "unpack it first")
_DOCUMENT = FileKind("a document of an office program", "save its text as `.txt`, UTF-8")
_BINARY = FileKind(
    "binary, not text", "give a text file: `.txt`, `.jsonl`, `.json`, `.csv`, `.tsv`"
)

_STARTS = (
    (b"PAR1", _TABLE),
    (b"ARROW1", _TABLE),
    (b"SQLite format 3\0", _TABLE),
    (b"\x1f\x8b", _PACKED),
    (b"BZh", _PACKED),
    (b"\xfd7zXZ\0", _PACKED),
    (b"\x28\xb5\x2f\xfd", _PACKED),
    (b"PK\x03\x04", _PACKED),
    (b"%PDF-", _DOCUMENT),
    (b"GGUF", _BINARY),
)
_SUFFIXES = {
    **dict.fromkeys((".parquet", ".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite"), _TABLE),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z"), _PACKED),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".xls", ".xlsx", ".ods", ".rtf"), _DOCUMENT),
    **dict.fromkeys((".pt", ".pth", ".bin", ".pkl", ".npy", ".npz", ".safetensors"), _BINARY),
}


def stand_in(start: bytes) -> FileKind | None:
    """Detect a placeholder for a file that was not downloaded: a git-LFS pointer or a web page.

    Args:
        start: The first bytes of the file; 128 are enough.
    """
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return _POINTER
    if (
        start.removeprefix(b"\xef\xbb\xbf")
        .lstrip()[:14]
        .lower()
        .startswith((b"<!doctype html", b"<html"))
    ):
        return _PAGE
    return None


def stand_in_at(path: Path) -> FileKind | None:
    """Apply `stand_in` to the first bytes of a file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return stand_in(file.read(128))


def no_text(path: Path, start: bytes) -> FileKind | None:
    """The format of a file that is not plain text, by its suffix or its first bytes; else None."""
    if (pointer := stand_in(start)) is _POINTER:
        return pointer
    by_start = next((kind for mark, kind in _STARTS if start.startswith(mark)), None)
    # The suffix is more specific: office documents are zip archives too.
    return _SUFFIXES.get(path.suffix.lower(), by_start)
