"""Start Python subprocesses that do not import from the working folder and end with their parent.

`python -m` and `python -c` put the working folder first on the import path, so a user's `numpy.py`
would shadow NumPy. Python 3.10 has no `-P`, and `-I` would also drop PYTHONPATH.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.util import get_temp_dir
from subprocess import PIPE, Popen

_VARIABLE = "PYTHONPATH"
_START = (
    "import sys; sys.path[:] = filter(None, sys.path);"
    " from numprune_export.core.fresh_process import main; main()"
)
"""`-c` adds the working folder to `sys.path` as an empty name: it is removed before any import."""


@dataclass(frozen=True)
class Ended:
    """The result of a finished process."""

    code: int
    """Exit code."""
    lines: tuple[str, ...]
    """Lines of standard output."""
    errors: tuple[str, ...]
    """Lines of standard error."""

    @property
    def reason(self) -> str:
        """The last line of standard error."""
        return self.errors[-1] if self.errors else "no message"


def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Ended:
    """Run a module as `python -m` does, and wait for it. The module must not read standard input.

    Args:
        module: Dotted name.
        arguments: Command-line arguments; paths may be relative to the working folder.
        environment: Variables added to those of this process.
        on_line: Called with each line of standard output as it arrives, stripped.
    """
    command = [sys.executable, "-c", _START, module, *arguments]
    given = {**os.environ, **_import_path(), **(environment or {})}
    lines = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        Popen(
            command, env=given, stdin=PIPE, stdout=PIPE, stderr=errors, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            on_line(lines[-1])
        code = process.wait()
        errors.seek(0)
        return Ended(code, tuple(lines), tuple(errors.read().strip().splitlines()))


def main() -> None:
    """Subprocess entry point: run the module named in `sys.argv`, and end with the parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    """Exit when standard input closes: the parent holds its other end until it ends."""
    while os.read(0, 1):
        pass
    os._exit(1)


@contextmanager
def empty_working_folder() -> Iterator[None]:
    """Context manager: use an empty working folder, for libraries that start Python themselves.

    The folder is removed when this process ends.
    """
    before, own = os.getcwd(), dict(os.environ)  # noqa: PTH109
    os.environ.update(_import_path())
    os.chdir(get_temp_dir())
    try:
        yield
    finally:
        os.chdir(before)
        if _VARIABLE in own:
            os.environ[_VARIABLE] = own[_VARIABLE]


def _import_path() -> dict[str, str]:
    """PYTHONPATH with absolute paths; empty entries, which mean the working folder, are dropped."""
    search_path = os.environ.get(_VARIABLE, "")
    names = [os.path.abspath(name) for name in search_path.split(os.pathsep) if name]  # noqa: PTH100
    return {_VARIABLE: os.pathsep.join(names)} if search_path else {}
