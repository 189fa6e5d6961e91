"""The command line in this process, its output as text."""

import shutil
import sys

import pytest
import torch
from command import command
from once import once
from small import small_recipe

from numprune_export.cli import app
from numprune_export.recipe import builtin_dir


@pytest.fixture
def printed(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["numprune-export", *arguments])
        with pytest.raises(SystemExit) as exit_:
            app.main()
        captured = capsys.readouterr()
        assert not exit_.value.code, captured.err
        return captured.out

    return call


@pytest.fixture
def answered(monkeypatch, capsys, tmp_path):
    """Call the command line in `tmp_path`: its exit code, output and errors."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["numprune-export", *map(str, arguments)])
        threads = torch.get_num_threads()
        with pytest.raises(SystemExit) as exit_:
            app.main()
        torch.set_num_threads(threads)
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def refused(answered):
    """A command that must fail with one line of what and one of how to fix: both."""

    def call(code, *arguments):
        got, out, err = answered(*arguments)
        lines = err.strip().splitlines()
        assert got == code, err
        assert out == ""
        assert lines[-2].startswith("error: "), err
        assert lines[-1].startswith("hint: "), err
        return err

    return call


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A finished run, made once; do not change it. Its dense model lies beside it, as `dense`."""

    def make(folder):
        shutil.copytree(builtin_dir() / "tiny-llama", folder / "dense")
        recipe = small_recipe(folder, model="dense")
        done = command("run", str(recipe), "--out", str(folder / "run"), "--quiet")
        assert done.code == 0, done.err

    return once(tmp_path_factory, "small-run", make) / "run"


@pytest.fixture
def own_run(small_run, tmp_path):
    """A copy of it, with its dense model, to be changed."""
    for name in ("run", "dense"):
        shutil.copytree(small_run.parent / name, tmp_path / name)
    return tmp_path / "run"
