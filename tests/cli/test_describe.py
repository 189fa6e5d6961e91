"""The commands that only look."""

import json

import pytest
from small import small_recipe

from numprune_export import recipe
from numprune_export.data.tasks import glue
from numprune_export.export import targets
from numprune_export.export.exporter import Availability
from numprune_export.recipe import builtin_dir


def test_inspect_says_what_can_go(printed):
    inspection = json.loads(printed("inspect", str(builtin_dir() / "tiny-llama"), "--json"))
    assert inspection["architecture"] == "LlamaForCausalLM"
    assert inspection["parameters"] == 869_504
    assert inspection["prunable_parameters"] == 4 * (4 * 12_288 + 352 * 384)
    assert inspection["sites"][0] == {
        "name": "layers.0.attention",
        "units": 4,
        "parameters_per_unit": 12_288,
    }


def test_inspect_reads_no_weights(printed, tmp_path):
    import shutil

    model = shutil.copytree(builtin_dir() / "tiny-llama", tmp_path / "model")
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    weights.write_bytes(content[:header] + b"\xff" * (len(content) - header))  # all NaN
    assert "0.9 M parameters" in printed("inspect", str(model))


def test_inspect_plan_estimates_a_recipe(printed, tmp_path):
    path = str(small_recipe(tmp_path))
    estimate = json.loads(printed("inspect", path, "--plan", "--json"))
    names = [stage["name"] for stage in estimate["stages"]]
    assert names == ["read", "score", "allocate", "prune"]
    assert estimate["memory_bytes"] == max(stage["memory_bytes"] for stage in estimate["stages"])
    assert sorted(estimate["disk_bytes"]) == ["artifacts", "model", "statistics"]
    lines = printed("inspect", path, "--plan", "--set", "calibration.sequences=7").splitlines()
    assert "- 7 calibration sequences, full windows of 64 tokens" in lines


def test_recipes_lists_every_shipped_recipe_with_its_purpose(printed):
    lines = printed("recipes").splitlines()
    assert [line.split()[0] for line in lines] == [*recipe.builtin_names(), *glue.table()]
    assert all(len(line.split()) > 4 for line in lines)


def test_targets_lists_every_target_and_its_state(printed):
    out = printed("targets")
    for name in targets.names():
        assert name in out
    assert "ready" in out


class Known:
    """A target that can do on this machine what the test says."""

    summary = "A target."

    def __init__(self, **here):
        self.availability = lambda: Availability(**here)


@pytest.mark.parametrize(
    ("here", "lines"),
    [
        ({"ready": True, "detail": "1.2", "install": "pip install x"}, ["ready", "1.2"]),
        (
            {"ready": True, "detail": "1.2", "install": "do it", "cannot_run": "no GPU"},
            ["builds only", "1.2", "no GPU", "install: do it"],
        ),
        (
            {"ready": True, "detail": "the wrong one", "cannot_run": "the wrong one"},
            ["builds only", "the wrong one"],
        ),
        (
            {"ready": False, "detail": "not there", "install": "pip install x"},
            ["missing", "not there", "install: pip install x"],
        ),
    ],
)
def test_a_target_is_ready_or_builds_only_or_missing(here, lines, printed, monkeypatch):
    monkeypatch.setattr(targets, "names", lambda: ["some"])
    monkeypatch.setattr(targets, "find", lambda name: Known(**here))
    first, *rest = printed("targets").splitlines()
    assert first.split() == ["some", *lines[0].split(), "A", "target."]
    assert [line.strip() for line in rest] == lines[1:]


def test_schema_prints_the_shipped_file(printed):
    assert printed("schema") == (builtin_dir() / "schema.json").read_text(encoding="utf-8")
