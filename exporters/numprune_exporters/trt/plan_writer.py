"""A file that the builder writes a serialized engine into, piece by piece."""

from __future__ import annotations

from typing import Any, BinaryIO


def file_writer(module: Any, file: BinaryIO) -> Any:
    """An IStreamWriter. Its `failure` is the OSError that ended it, or None."""

    class FileWriter(module.IStreamWriter):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IStreamWriter.__init__(self)  # pybind: `super()` makes no C++ object
            self.failure: OSError | None = None

        def write(self, data: bytes) -> int:
            """How many bytes were taken: fewer than given ends the build."""
            if self.failure is not None:
                return 0
            try:
                return file.write(data)
            except OSError as error:  # must not cross the library, which knows no exceptions
                self.failure = error
                return 0

    return FileWriter()
