"""A stream writer: the builder writes the serialized engine to a file in pieces."""

from __future__ import annotations

from typing import Any, BinaryIO


def file_writer(module: Any, file: BinaryIO) -> Any:
    """An IStreamWriter. `failure` is the OSError that stopped it, or None."""

    class FileWriter(module.IStreamWriter):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IStreamWriter.__init__(self)  # pybind: `super()` creates no C++ object
            self.failure: OSError | None = None

        def write(self, data: bytes) -> int:
            """Number of bytes written; fewer than given stops the build."""
            if self.failure is not None:
                return 0
            try:
                return file.write(data)
            except (
                OSError
            ) as error:  # must not pass through the library, which does not handle exceptions
                self.failure = error
                return 0

    return FileWriter()
