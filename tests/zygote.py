"""A process that has the package's libraries loaded and forks for every command and every reload proof.

A command of the tests is a process of its own, as a user's is, without the seconds that importing PyTorch
and transformers takes; so is the process in which a saved model is loaded for its proof. What is read
while they are imported (`HF_*`, thread counts) is the zygote's: a command that needs another environment
is started by itself, see `command.start`. Tests of fresh processes themselves start real ones, see the
fixture `fresh_proofs`.
"""

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True)
class Started:
    """A command at work, for tests that stop it."""

    pid: int
    """Also the number of its process group, which is its own, as in a terminal."""
    out: TextIO
    """What it writes to stdout, as it comes."""
    err: TextIO
    wait: Callable[[], int]
    """Its exit code, or minus the signal that ended it."""


SHARED = "ZYGOTE_SOCKET"
"""Environment variable: where the process listens that forks for all workers."""


class Forks:
    """The parent's side of a process that forks: one fork at a time, beside those that were started."""

    def __init__(self, requests: TextIO, answers: TextIO) -> None:
        self._requests, self._answers = requests, answers

    def command(
        self, arguments: list[str], cwd: Path | None, environment: Mapping[str, str]
    ) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of the command line with these arguments."""
        return self._run("command", arguments, cwd or Path.cwd(), environment)

    def script(
        self, arguments: list[str], cwd: Path | None, environment: Mapping[str, str]
    ) -> tuple[int, str, str]:
        """As `command`, of a Python file and its arguments."""
        return self._run("script", arguments, cwd or Path.cwd(), environment)

    def module(self, arguments: list[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
        """As `command`, of a module and its arguments."""
        return self._run("module", arguments, Path.cwd(), environment)

    @contextmanager
    def start(
        self, arguments: list[str], cwd: Path, environment: Mapping[str, str]
    ) -> Iterator[Started]:
        """A command that goes on while the test does; its reload proof starts Python anew."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            os.mkfifo(out)
            os.mkfifo(err)
            pid = self._ask("start", arguments, cwd, environment, (str(out), str(err)))
            with out.open() as stdout, err.open() as stderr:
                yield Started(pid, stdout, stderr, lambda: self._send({"kind": "wait", "pid": pid}))

    def _run(
        self, kind: str, arguments: list[str], cwd: Path, environment: Mapping[str, str]
    ) -> tuple[int, str, str]:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            code = self._ask(kind, arguments, cwd, environment, (str(out), str(err)))
            return code, out.read_text(), err.read_text()

    def _ask(
        self,
        kind: str,
        arguments: list[str],
        cwd: Path,
        environment: Mapping[str, str],
        streams: tuple[str, str],
    ) -> int:
        out, err = streams
        request = {"kind": kind, "arguments": arguments, "cwd": str(cwd), "out": out, "err": err}
        return self._send({**request, "environment": dict(environment)})

    def _send(self, request: dict[str, Any]) -> int:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return int(self._answers.readline())

    def close(self) -> None:
        """The end of its input is the end of the process."""
        self._requests.close()
        self._answers.close()


@cache
def zygote(pid: int) -> Forks:
    """The one of this process, asked for when it is first needed; a fork of this process has its own."""
    if SHARED not in os.environ:
        serve_all()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[SHARED])
    forks = Forks(connection.makefile("w"), connection.makefile("r"))
    connection.close()  # the files keep it open
    atexit.register(forks.close)
    return forks


def serve_all() -> None:
    """Start the process that imports the libraries, once for all workers: each talks to a fork of its
    own. It ends with this process."""
    folder = tempfile.mkdtemp(prefix="zygote-")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/socket")
    listener.listen()  # connections wait until the libraries are imported
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    search_path = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(listener.fileno())],
        env={**os.environ, **quiet, "PYTHONPATH": search_path},
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
    )
    listener.close()
    os.environ[SHARED] = f"{folder}/socket"
    assert process.stdin is not None
    atexit.register(shutil.rmtree, folder)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)  # the end of its input is the end of the process


def forked_proofs(forks: Callable[[], Forks]) -> Callable:
    """What stands in for `run_module` where a reload proof starts its process."""
    from numprune_export.core.fresh_process import Ended

    def run_module(
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> Ended:
        code, out, err = forks().module([module, *arguments], {**os.environ, **environment})
        for line in out.splitlines():
            on_line(line)
        return Ended(code, tuple(out.splitlines()), tuple(err.strip().splitlines()))

    return run_module


def _serve(requests: TextIO, answers: TextIO) -> None:
    for line in requests:
        request = json.loads(line)
        child = request["pid"] if request["kind"] == "wait" else os.fork()
        if child == 0:
            _become(request)
        if request["kind"] == "start":
            answer = child
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answers.write(f"{answer}\n")
        answers.flush()


def _serve_each(listener: socket.socket, parent: TextIO) -> None:
    """A fork for every connection, until the parent's pipe is closed."""
    while True:
        ready, _, _ = select.select([listener, parent], [], [], 5)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if parent in ready:
            return
        if listener in ready:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _serve(connection.makefile("r"), connection.makefile("w"))
                os._exit(0)
            connection.close()


def _become(request: dict) -> None:
    """The command or module, and what was registered for its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["kind"] == "start":
        os.setpgid(0, 0)
    for name, descriptor in (("out", 1), ("err", 2)):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        stream = open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, f"std{name}", stream)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # the environment's
    _set_modules_cache()
    code = 0
    try:
        if request["kind"] in ("command", "script"):
            _fork_proofs()
        _RUN[request["kind"]](request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking every module down again takes a second


def _set_modules_cache() -> None:
    """The cache of code that comes with models is the one of the environment."""
    import transformers

    if "HF_MODULES_CACHE" in os.environ:
        for module in (transformers.utils.hub, transformers.dynamic_module_utils):
            module.HF_MODULES_CACHE = os.environ["HF_MODULES_CACHE"]


def _fork_proofs() -> None:
    """A fork of this process, made before any work, forks for its reload proofs."""
    from numprune_export.models.checkpoint import reload_proof

    reload_proof.run_module = forked_proofs(partial(Forks, *_server()))


def _command(arguments: list[str]) -> None:
    """The points of a sweep are forks as well."""
    from numprune_export.cli.app import main
    from numprune_export.workflows.sweep import local

    local._context = partial(multiprocessing.get_context, "fork")
    sys.argv = ["numprune-export", *arguments]
    main()


def _script(arguments: list[str]) -> None:
    """As `python FILE`."""
    sys.argv = list(arguments)
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")


def _server() -> tuple[TextIO, TextIO]:
    """The ends of the pipes to a fork of this process that serves; it ends with this process."""
    requests, answers = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(requests[1])
        os.close(answers[0])
        _serve(os.fdopen(requests[0]), os.fdopen(answers[1], "w"))
        os._exit(0)
    os.close(requests[0])
    os.close(answers[1])
    return os.fdopen(requests[1], "w"), os.fdopen(answers[0])


def _module(arguments: list[str]) -> None:
    """As `python -m`."""
    sys.argv = list(arguments)
    sys.modules.pop(arguments[0], None)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


IMPORTED = (
    "numprune_export.api",
    "numprune_export.cli.progress.run",
    "numprune_export.pipeline",
    "numprune_export.workflows.remeasure.rerun",
    "numprune_exporters.onnx.target",
    "cyclonedx.output.json",
    "onnxruntime",
)
"""What a run imports sooner or later."""

_RUN = {"command": _command, "start": _command, "script": _script, "module": _module}

if __name__ == "__main__":
    from report.sample import report

    from numprune_export.report.html import page

    for library in IMPORTED:
        importlib.import_module(library)

    page.render(report())  # what is read and compiled for the first page: fonts, templates
    gc.freeze()  # a fork neither looks through what was imported nor copies its pages
    _serve_each(socket.socket(fileno=int(sys.argv[1])), sys.stdin)
