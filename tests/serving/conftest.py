"""A finished run, its package, and a real Triton server with it."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import command
from once import once
from small import small_recipe

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-triton"
MAKE = "make .venv-triton/installed"
READY_S = 60


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A small recipe's run, by the command line."""
    benchmark = {"prefill": 8, "past": 8, "decode_steps": 2, "samples": 5, "warmup": 1}

    def make(folder):
        recipe = str(small_recipe(folder, benchmark=benchmark))
        result = command("run", recipe, "--out", "out", cwd=folder)
        assert result.code == 0, result.err

    return once(tmp_path_factory, "served-run", make) / "out"


@pytest.fixture(scope="session")
def package(run_folder, tmp_path_factory):
    """The pruned model as `tiny`, packaged by the command line."""
    wanted = ["--name", "tiny", "--set", "threads=1", "--set", "max_batch=4"]

    def make(folder):
        result = command("package", str(run_folder), "--out", str(folder / "package"), *wanted)
        assert result.code == 0, result.err

    return once(tmp_path_factory, "served-package", make) / "package"


@dataclass(frozen=True)
class Server:
    """Where a running server listens."""

    http: str
    grpc: str
    python: Path
    log: Path


@pytest.fixture(scope="session")
def environment():
    """Of the server; CI must have it."""
    if not (ENVIRONMENT / "installed").exists():
        reason = f"no Triton environment: `{MAKE}` makes it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def server(environment, package, tmp_path_factory):
    """The tritonserver of nvidia-pytriton, in its own environment, with the package's repository."""
    folder = tmp_path_factory.mktemp("triton")
    ports = _free_port(), _free_port()
    triton = Server(
        f"127.0.0.1:{ports[0]}",
        f"127.0.0.1:{ports[1]}",
        ENVIRONMENT / "bin" / "python",
        folder / "log",
    )
    with triton.log.open("w") as log:
        process = subprocess.Popen(
            _command(package / "repository", folder, ports),
            env=_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(triton, process)
        yield triton
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(repository, folder, ports):
    triton = _site() / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", backend)
    stub = triton / "python_backend_stubs" / _site().parent.name.removeprefix("python")
    shutil.copy(stub / "triton_python_backend_stub", backend)
    return [
        triton / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backend.parent}",
        "--http-address=127.0.0.1",
        f"--http-port={ports[0]}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports[1]}",
        "--allow-metrics=false",
    ]


def _environment():
    """The backend's interpreter takes its packages from the first python3 on PATH."""
    ask = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    python = ENVIRONMENT / "bin" / "python"
    library = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    paths = [library.stdout.strip(), str(_site() / "nvidia_pytriton.libs")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {
        **kept,
        "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
    }


def _site():
    (site,) = (ENVIRONMENT / "lib").glob("python3.*/site-packages")
    return site


def _wait_until_ready(server, process):
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        assert process.poll() is None, server.log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(f"http://{server.http}/v2/health/ready", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"not ready after {READY_S} s:\n{server.log.read_text()[-4000:]}")


def _free_port():
    with socket.socket() as tcp_socket:
        tcp_socket.bind(("127.0.0.1", 0))
        return tcp_socket.getsockname()[1]
