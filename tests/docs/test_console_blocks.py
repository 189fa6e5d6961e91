"""Console and Python blocks of the README and the guides are run, in order, in one working folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from zygote import zygote

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = (
    "README.md",
    "docs/start.md",
    "docs/concepts/plan.md",
    "docs/guides/prune.md",
    "docs/guides/encoders.md",
    "docs/guides/compare.md",
    "docs/guides/gate.md",
    "docs/guides/targets.md",
    "docs/guides/serve.md",
    "docs/guides/verify.md",
)


@pytest.fixture
def place(tmp_path_factory):
    """A folder with the recipes in it, as in a checkout, and the console script on the path."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "recipes" / "tiny-llama", folder / "recipes" / "tiny-llama")
    return folder


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return [match.groups() for match in BLOCK.finditer(text)]


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
    forks = zygote(os.getpid())
    if command[0] == "numprune-export":
        code, out, err = forks.command(command[1:], place, environment)
    elif command[0] == "python":
        code, out, err = forks.script(command[1:], place, environment)
    else:
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 0, err
    return out


def matches(expected, got):
    """`...` stands for anything, within a line or for whole lines."""
    pattern = re.escape(expected.rstrip("\n")).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, got.rstrip("\n"), re.DOTALL)


@pytest.mark.slow
def test_the_blocks_do_what_they_show(place, tmp_path):
    """One test: later blocks use what earlier ones made. A repeated Python block runs once."""
    python = set()
    for page in PAGES:
        assert blocks(page), f"{page} has no block"
        for kind, text in blocks(page):
            if kind == "python":
                if text not in python:
                    block = tmp_path / "block.py"
                    block.write_text(text, encoding="utf-8")
                    execute(["python", str(block)], place)
                python.add(text)
                continue
            first, _, expected = text.partition("\n")
            assert first.startswith("$ ")
            got = execute(first.removeprefix("$ ").split(), place)
            assert matches(expected, got), f"{page}: {first}\n{got}"
    assert len(python) > 1


def test_every_page_with_a_console_block_is_run():
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert {page for page in pages if any(kind == "console" for kind, _ in blocks(page))} == {
        page for page in PAGES if page != "README.md"
    }


def test_the_matcher_notices_a_difference():
    assert matches("a\n...\nz", "a\nb\nc\nz")
    assert matches("size ... MB", "size 12 MB")
    assert not matches("a\nb", "a\nc")
    assert not matches("a\n...", "b\nc")
