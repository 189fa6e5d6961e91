"""A recipe and an environment, for sweeps that nothing was run for."""

import pytest
from report.sample import ENVIRONMENT
from small import small_recipe

from numprune_export import recipe as recipes


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    return recipes.load(small_recipe(tmp_path_factory.mktemp("recipe")))


@pytest.fixture(scope="session")
def environment():
    return ENVIRONMENT
