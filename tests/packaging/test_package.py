"""What is shipped, what is public, and what importing costs."""

import importlib
import json
import pkgutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import numprune_export
import numprune_exporters
from numprune_export.data import general_files

ROOT = Path(__file__).parents[2]


def modules():
    for package in (numprune_export, numprune_exporters):
        infos = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        yield from (info.name for info in infos if not info.name.endswith("__main__"))


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_module_imports_and_says_what_it_is(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"


def test_the_public_names_are_the_ones_listed():
    assert numprune_export.__all__ == sorted(numprune_export.__all__)
    for name in numprune_export.__all__:
        assert hasattr(numprune_export, name)


HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "onnx_ir", "numpy")
LOADED = f"""
import sys, json
sys.argv = ["numprune-export", *sys.argv[1:]]
from numprune_export.cli import app
try:
    app.main()
except SystemExit as exit_:
    assert not exit_.code, exit_.code
print()
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["inspect", "--help"]]
)
def test_help_and_version_load_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_importing_the_package_loads_no_torch():
    code = "import sys, numprune_export; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_both_packages_and_the_recipes_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        entries = archive.read(entry).decode()
    for recipe in (ROOT / "recipes").rglob("*"):
        if recipe.is_file():
            assert f"numprune_export/_recipes/{recipe.relative_to(ROOT / 'recipes')}" in names
    for text in general_files.FOLDER.iterdir():
        assert f"numprune_export/data/general/{text.name}" in names
    assert "numprune_exporters/onnx/target.py" in names
    assert "numprune_export/py.typed" in names
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"numprune_export", "numprune_exporters"}
    assert "numprune-export = numprune_export.cli.app:main" in entries


def test_an_unpacked_wheel_finds_its_own_recipes(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from numprune_export.recipe import builtin_dir; print(builtin_dir())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "numprune_export" / "_recipes")


def test_pinned_versions_allow_what_the_package_asks_for():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    asked = [Requirement(line) for line in requires("numprune-export")]
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        assert name not in pins or requirement.specifier.contains(pins[name]), requirement
    assert {"torch", "transformers", "onnx", "onnxruntime", "gguf"} <= pins.keys()
