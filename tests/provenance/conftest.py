"""A finished run of the small recipe, made once, and copies of it to damage."""

import shutil

import pytest
import yaml
from small import small_run


@pytest.fixture(scope="session")
def _original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("provenance")
    return small_run(folder), folder


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
