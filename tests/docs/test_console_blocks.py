"""The README's console and Python blocks are run, in order, in one working folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path_factory):
    """A folder with the recipes in it, as in a checkout, and the console script on the path."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "recipes" / "tiny-llama", folder / "recipes" / "tiny-llama")
    return folder


def blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [found.groups() for found in BLOCK.finditer(text)]


def execute(command, place):
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(place / "modules"),
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def matches(expected, got):
    """`...` stands for anything, within a line or for whole lines."""
    pattern = re.escape(expected.rstrip("\n")).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, got.rstrip("\n"), re.DOTALL)


def test_the_blocks_do_what_they_show(place):
    """One test: later blocks use what earlier ones made."""
    found = blocks()
    assert len(found) > 6
    for kind, text in found:
        if kind == "python":
            execute([sys.executable, "-c", text], place)
            continue
        first, _, expected = text.partition("\n")
        assert first.startswith("$ ")
        got = execute(first.removeprefix("$ ").split(), place)
        assert matches(expected, got), f"{first}\n{got}"


def test_the_matcher_notices_a_difference():
    assert matches("a\n...\nz", "a\nb\nc\nz")
    assert matches("size ... MB", "size 12 MB")
    assert not matches("a\nb", "a\nc")
    assert not matches("a\n...", "b\nc")
