"""A plan edited by hand in the run folder is what the next run makes, measures and reports."""

import json

import pytest
import yaml
from command import command

from numprune_export.models.checkpoint.load import load
from numprune_export.recipe import builtin_dir

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """A finished run's folder, and the command that makes it up to date."""
    folder = tmp_path_factory.mktemp("run")
    data = builtin_dir() / "data"
    train, dev = (str(data / f"presidents_{part}.jsonl") for part in ("train", "dev"))
    content = {
        "version": 1,
        "model": str(builtin_dir() / "tiny-bert"),
        "keep": 0.6,
        "calibration": {"files": [train], "max_length": 32, "sequences": 32},
        "evaluation": {"files": [dev], "max_length": 32, "sequences": 32},
        "score": "magnitude",
        "compensate": "none",
        "benchmark": {"batches": [1], "lengths": [16], "samples": 8},
        "threads": 1,
    }
    (folder / "bert.yaml").write_text(yaml.safe_dump(content))

    def run():
        return command("run", "bert.yaml", "--out", "out", cwd=folder)

    first = run()
    assert first.code == 0, first.err
    return folder / "out", run


def test_a_layer_emptied_by_hand_is_pruned_exported_and_reported_empty(again):
    out, run = again
    for told in ("log", "report.md", "report.html", "report.json", "model/README.md"):
        assert "edited by hand" not in (out / told).read_text(), told
    assert not any(layer["emptied"] for layer in load(out / "model").config.numprune["layers"])
    content = json.loads((out / "plan" / "plan.json").read_text())
    for site in content["sites"]:
        if site["name"] in ("layers.0.mlp", "layers.1.attention", "layers.1.mlp"):
            site["kept"] = []
    (out / "plan" / "plan.json").write_text(json.dumps(content))

    done = run()

    assert done.code == 0, done.err
    model = load(out / "model", verify_hashes=True)
    assert [list(layer["emptied"]) for layer in model.config.numprune["layers"][:3]] == [
        ["intermediate"],
        ["attention.self", "intermediate"],
        [],
    ]
    metrics = json.loads((out / "report.json").read_text())["metrics"]
    assert metrics["parity.onnx.max_abs_error"]["value"] < 1e-3
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert metrics["size.parameters.pruned"]["value"] == parameters
    assert "0 of 256" in (out / "report.md").read_text()

    report = json.loads((out / "report.json").read_text())
    warning = "the plan was edited by hand: it keeps"
    assert warning in report["plan_warnings"][0]
    assert warning in report["summary"]
    for told in (out / "log", out / "report.md", out / "report.html"):
        assert warning in told.read_text(), told
    kept = model.config.numprune["plan"]["keep"]
    assert kept < 0.6
    card = (out / "model" / "README.md").read_text()
    assert f"kept: {kept:.4g} of the prunable parameters, by a plan edited by hand" in card


def test_a_spoilt_plan_is_one_clear_error(again):
    out, run = again
    (out / "plan" / "plan.json").write_text("{")
    done = run()
    assert done.code == 4
    assert "plan.json` is not readable" in done.err
    assert "to recompute the plan" in done.err
    assert "Traceback" not in done.err
