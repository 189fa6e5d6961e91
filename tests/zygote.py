"""A process that has the package's libraries loaded and forks for every command.

A command of the tests is a process of its own, as a user's is, without the seconds that importing PyTorch
and transformers takes. What is read while they are imported (`HF_*`, thread counts) is the zygote's: a
command that needs another environment is started by itself, see `command.start`.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path


class Zygote:
    """Its parent's side: one command at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        here = Path(__file__)
        self._process = subprocess.Popen(
            [sys.executable, str(here)],
            env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def run(
        self, arguments: list[str], cwd: Path | None, environment: dict[str, str]
    ) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of the command line with these arguments."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            request = {
                "arguments": arguments,
                "cwd": str(cwd or Path.cwd()),
                "environment": environment,
                "out": str(out),
                "err": str(err),
            }
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return code, out.read_text(), err.read_text()

    def close(self) -> None:
        """The end of its input is the end of it."""
        self._process.stdin.close()
        self._process.wait()


@cache
def zygote(pid: int) -> Zygote:
    """The one of this process, started when it is first asked for; a fork of it has its own."""
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return Zygote({**os.environ, **quiet})


def _serve() -> None:
    import numprune_export.api
    import numprune_export.cli.progress.run
    import numprune_export.pipeline
    import numprune_export.workflows.remeasure.rerun  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _become(request: dict) -> None:
    """The command, and what was registered for its end."""
    from numprune_export.cli.app import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, descriptor in (("out", 1), ("err", 2)):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["numprune-export", *request["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking every module down again takes a second


if __name__ == "__main__":
    _serve()
