"""Run the command line as a user does: in a process of its own."""

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from zygote import Started, zygote

HANGS_S = 3600
"""A process that has not ended by then never will, however busy the machine."""
READ_AT_IMPORT = ("HF_", "TRANSFORMERS_", "OMP_", "ATEN_", "ONEDNN_", "CUDA_", "PYTHON")
"""Variables that libraries read while they are imported."""
QUIET = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "100"}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def start(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "numprune_export", *arguments],
        cwd=cwd,
        env={**os.environ, **QUIET, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_interruptible,
    )


def _interruptible() -> None:
    """Ctrl-C reaches the process even where the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(*arguments: str, cwd: Path | None = None, **environment: str) -> Result:
    """A fork of a process with the libraries loaded; a fresh one if they read the environment."""
    if any(name.startswith(READ_AT_IMPORT) for name in environment):
        process = start(*arguments, cwd=cwd, **environment)
        out, err = process.communicate(timeout=HANGS_S)
        return Result(process.returncode, out, err)
    own = {**os.environ, **QUIET, **environment}
    return Result(*zygote(os.getpid()).command([str(word) for word in arguments], cwd, own))


def script(*arguments: str | Path, cwd: Path | None = None) -> Result:
    """As `command`, of a Python file and its arguments."""
    own = {**os.environ, **QUIET}
    return Result(*zygote(os.getpid()).script([str(word) for word in arguments], cwd, own))


def started(*arguments: str, cwd: Path, **environment: str) -> AbstractContextManager[Started]:
    """A fork as of `command`, which goes on while the test does."""
    return zygote(os.getpid()).start(list(arguments), cwd, {**os.environ, **QUIET, **environment})
