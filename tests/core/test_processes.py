"""What the environment says of the processes of a run."""

import pytest

from numprune_export.core.errors import InputError
from numprune_export.core.processes import Ranks, started

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "a",
    "MASTER_PORT": "1",
}


@pytest.fixture
def environment(monkeypatch):
    def write(**variables):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return write


def test_a_process_of_torchrun_knows_its_number(environment):
    environment(**TORCHRUN)
    assert started() == Ranks(3, 4, 1)
    assert not started().first


@pytest.mark.parametrize("variables", [{}, {"RANK": "5"}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": ""}])
def test_without_others_it_is_alone(environment, variables):
    environment(**variables)
    assert started() == Ranks(0, 1, 0)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
        ({"WORLD_SIZE": "0"}, "not a number from 1"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"RANK": "4"}, "not below"),
        ({"MASTER_ADDR": ""}, "no `MASTER_ADDR`"),
        ({"RANK": ""}, "no `RANK`"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(environment, changes, what):
    environment(**{**TORCHRUN, **changes})
    with pytest.raises(InputError, match=what) as refused:
        started()
    assert "torchrun" in refused.value.hint
