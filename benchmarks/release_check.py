"""Install the built wheel and sdist, each in a clean environment, and run `smoke` from there.

    make dist
    python benchmarks/release_check.py dist [--python python3.12] [--torch torch==2.13.0] [--extras]

Each environment gets PyTorch and the package with its `cpu` extra, nothing else, and works in an empty
folder outside the checkout. `--extras` asks pip to resolve every optional extra, without installing it;
an extra whose packages the reachable indexes do not have is named, with pip's reason, and counts as a
failure unless it is given to `--unreachable`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import tomllib
import typer

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ("--set", "benchmark.samples=5", "--set", "benchmark.sessions=1")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("dist", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--torch", default="torch==2.13.0")
    parser.add_argument("--extras", action="store_true")
    parser.add_argument("--unreachable", action="append", default=[])
    options = parser.parse_args()
    failures = []
    for distribution in (*options.dist.glob("*.whl"), *options.dist.glob("*.tar.gz")):
        with tempfile.TemporaryDirectory() as folder:
            python = environment(Path(folder), options.python, options.torch)
            started = time.perf_counter()
            reason = install_and_run(python, distribution.resolve(), Path(folder) / "work")
            typer.echo(
                f"{distribution.name}: {reason or 'ok'}, {time.perf_counter() - started:.0f} s"
            )
            failures += [distribution.name] if reason else []
            if options.extras and distribution.suffix == ".whl":
                failures += unresolved(python, distribution.resolve(), options.unreachable)
    return 1 if failures or not list(options.dist.glob("*.whl")) else 0


def environment(folder: Path, python: str, torch: str) -> Path:
    """The interpreter of a new environment with PyTorch in it."""
    run([python, "-m", "venv", str(folder / "venv")])
    inside = folder / "venv" / "bin" / "python"
    run([str(inside), "-m", "pip", "install", "--quiet", torch])
    return inside


def install_and_run(python: Path, distribution: Path, work: Path) -> str | None:
    """None, or why `smoke` did not run."""
    work.mkdir()
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    commands = (
        [str(python), "-m", "pip", "install", "--quiet", *constraints, f"{distribution}[cpu]"],
        [str(python.with_name("numprune-export")), "run", "smoke", "--out", "smoke", *SMOKE],
        [str(python.with_name("numprune-export")), "verify", "smoke"],
    )
    for command in commands:
        done = subprocess.run(command, cwd=work, env=clean(), capture_output=True, text=True)
        if done.returncode:
            return f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr[-2000:]}"
    return None


def unresolved(python: Path, wheel: Path, unreachable: Sequence[str]) -> list[str]:
    """Extras that pip cannot resolve, but for those that are known to be unreachable."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    failed = []
    for extra in project["optional-dependencies"]:
        command = [str(python), "-m", "pip", "install", "--quiet", "--dry-run", f"{wheel}[{extra}]"]
        done = subprocess.run(command, env=clean(), capture_output=True, text=True)
        last = (done.stderr.strip().splitlines() or [""])[-1]
        typer.echo(f"extra `{extra}`: {'resolves' if done.returncode == 0 else last}")
        failed += [extra] if done.returncode and extra not in unreachable else []
    return failed


def clean() -> dict[str, str]:
    """This environment without what could bring the checkout in."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, env=clean())


if __name__ == "__main__":
    sys.exit(main())
