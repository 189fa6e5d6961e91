"""Model folders whose text files transformers can read: UTF-8 without a byte order mark."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from numprune_export.core.text_file import decoded, encoding_of, read_bytes

_TEXTS = (".json", ".txt", ".jinja")


@contextmanager
def plain_folder(folder: Path) -> Iterator[Path]:
    """The folder itself, or within a `with` statement a copy with re-encoded text files.

    Files without a byte order mark are linked into the copy.

    Raises:
        InputError: a file is not valid text in the encoding of its byte order mark.
    """
    marked = {path for path in sorted(folder.iterdir()) if _is_marked(path)}
    if not marked:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="numprune-plain-") as temporary:
        plain = Path(temporary)
        for path in folder.iterdir():
            if path in marked:
                text = decoded(path, read_bytes(path))
                (plain / path.name).write_text(text, encoding="utf-8")
            else:
                (plain / path.name).symlink_to(path.absolute())
        yield plain


def _is_marked(path: Path) -> bool:
    if path.suffix not in _TEXTS or not path.is_file():
        return False
    with path.open("rb") as file:
        return encoding_of(file.read(4)) != "utf-8"
