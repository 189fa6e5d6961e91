"""A finished run of the small recipe, made once, and copies of it to damage."""

import shutil

import pytest
import yaml
from once import once
from small import small_run

from numprune_export.core.run_folder import REPORT
from numprune_export.report.store import read


@pytest.fixture(scope="session")
def _original(tmp_path_factory):
    folder = once(tmp_path_factory, "provenance", small_run)
    return read(folder / "out" / REPORT), folder


@pytest.fixture
def report(_original):
    return _original[0]


@pytest.fixture
def finished(_original, tmp_path):
    """The run's folder, this test's own copy."""
    shutil.copytree(_original[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


@pytest.fixture
def resolved(finished):
    """The recipe as resolved."""
    return yaml.safe_load((finished / "recipe.yaml").read_text())
