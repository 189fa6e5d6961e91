"""Python processes that this package starts: no code of the working folder, none outlives its parent.

`python -m` and `python -c` put the working folder first on the import path, where a user's `numpy.py`
would be run in place of NumPy. Python 3.10 has no `-P`, and `-I` would also drop PYTHONPATH.
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
"""Nothing is imported before the working folder, which `-c` writes as an empty name, is dropped."""


@dataclass(frozen=True)
class Ended:
    """A process that is over."""

    code: int
    lines: tuple[str, ...]
    """What it wrote to standard output."""
    errors: tuple[str, ...]
    """What it wrote to standard error."""

    @property
    def reason(self) -> str:
        """The last line of its errors."""
        return self.errors[-1] if self.errors else "no message"


def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Ended:
    """Run a module as `python -m` does, and wait for it. Its standard input is not to be read.

    Args:
        module: Dotted name.
        arguments: Of its command line; paths may be relative to the working folder.
        environment: Variables on top of this process's own.
        on_line: Told of each line of its standard output when it comes, stripped.
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
    """In the new process: run the module that the command line names, and end with the parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    """The parent holds the other end of standard input: it closes when the parent ends in any way."""
    while os.read(0, 1):
        pass
    os._exit(1)


@contextmanager
def empty_working_folder() -> Iterator[None]:
    """Meanwhile the working folder is an empty one, for libraries that start Python by themselves.

    It is removed when this process ends.
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
    """PYTHONPATH as it is meant here, from any folder; an empty name in it is the working folder."""
    told = os.environ.get(_VARIABLE, "")
    names = [os.path.abspath(name) for name in told.split(os.pathsep) if name]  # noqa: PTH100
    return {_VARIABLE: os.pathsep.join(names)} if told else {}
