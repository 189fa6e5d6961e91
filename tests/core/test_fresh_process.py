"""Processes that the package starts run no code of the working folder and end with their parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from numprune_export.core.fresh_process import empty_working_folder, run_module

SHADOWED = (
    "json",
    "multiprocessing",
    "numpy",
    "random",
    "runpy",
    "selectors",
    "threading",
    "torch",
)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """The working folder holds modules named as libraries; each leaves a mark when it is imported."""
    here = tmp_path / "here"
    here.mkdir()
    for name in SHADOWED:
        mark = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r}); raise ImportError({name!r})"
        (here / f"{name}.py").write_text(mark)
    monkeypatch.chdir(here)
    return tmp_path / "ran"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A folder on PYTHONPATH, by a relative name and beside an empty one."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", os.path.relpath(folder)]))
    return folder


def test_a_module_is_run_with_its_arguments_and_without_the_working_folder(trap, modules):
    (modules / "given.py").write_text(
        "import json, os, sys, numpy\n"
        "print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['GIVEN']]))\n"
        "print('first\\nlast', file=sys.stderr); sys.exit(3)\n"
    )
    heard = []
    ended = run_module("given", ["a b", "c"], environment={"GIVEN": "x"}, on_line=heard.append)
    assert ended.code == 3
    assert ended.reason == "last"
    assert list(ended.lines) == heard == [f'[["a b", "c"], "{trap.parent / "here"}", "x"]']
    assert not trap.exists()


def test_a_module_that_is_not_there_is_an_exit_code_and_a_reason(trap, modules):
    ended = run_module("not_there", [])
    assert ended.code != 0
    assert "not_there" in ended.reason


def test_libraries_start_python_from_an_empty_folder(trap, modules):
    before = os.environ["PYTHONPATH"]
    with empty_working_folder():
        assert list(Path.cwd().glob("*.py")) == []
        done = subprocess.run([sys.executable, "-c", "import json, random, numpy"], check=False)
        assert os.environ["PYTHONPATH"] == str(modules)
    assert done.returncode == 0
    assert not trap.exists()
    assert Path.cwd() == trap.parent / "here"
    assert os.environ["PYTHONPATH"] == before


PARENT = """
import sys
from numprune_export.core.fresh_process import run_module
run_module("sleeper", [], on_line=lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_ends_with_its_parent_however_that_ends(modules, number):
    (modules / "sleeper.py").write_text(
        "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(number)
        child.wait(timeout=60)
    assert not child.is_running()


SWEEP = """
import sys
from numprune_export.workflows.sweep.local import Local

def modules(job):
    import json, random
    return [path for path in sys.path if path == job]

if __name__ == "__main__":
    print(list(Local(modules).run([sys.argv[1]])))
"""


@pytest.mark.slow
def test_the_points_of_a_sweep_run_no_code_of_the_working_folder(trap, tmp_path):
    script = tmp_path / "script" / "sweep.py"
    script.parent.mkdir()
    script.write_text(SWEEP)
    here = str(Path.cwd())
    done = subprocess.run([sys.executable, script, here], capture_output=True, text=True)
    assert done.stdout == f"[({here!r}, [])]\n", done.stderr
    assert not trap.exists()


def test_python_m_of_the_package_drops_the_working_folder(tmp_path, monkeypatch):
    """Python itself reads the package by it; what that imports later it does not."""
    (tmp_path / "typer.py").write_text("raise SystemExit('the working folder was imported')")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "numprune_export", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
