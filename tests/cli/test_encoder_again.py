"""Encoders through `sweep`, and what it leaves through `validate`, `bench`, `compare` and `check`."""

import json
import shutil

import pytest
import yaml
from command import command

from numprune_export.recipe import builtin_dir

DATA = builtin_dir() / "data"
FEW = ("--samples", "5", "--quiet")
STEM = "latency.onnx.forward.b1.l16"


def metrics(path):
    return json.loads(path.read_text())["metrics"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    shutil.copytree(builtin_dir() / "tiny-bert", folder / "dense")
    content = {
        "version": 1,
        "model": "dense",
        "keep": 0.5,
        "calibration": {
            "files": [str(DATA / "presidents_train.jsonl")], "sequences": 128, "max_length": 64,
        },
        "evaluation": {
            "files": [str(DATA / "presidents_dev.jsonl")], "sequences": 96, "max_length": 64,
        },
        "score": "fisher",
        "allocate": "search",
        "compensate": "refit",
        "benchmark": {"batches": [1], "lengths": [16], "samples": 5, "warmup": 1},
        "threads": 1,
    }  # fmt: skip
    (folder / "small.yaml").write_text(yaml.safe_dump(content))
    done = command("sweep", "small.yaml", "--keep", "0.6,0.3", "--out", "out", "-q", cwd=folder)
    assert done.code == 0, done.err
    return folder, done.out


@pytest.fixture
def runs(swept, tmp_path):
    """Copies of both points beside the dense model, to be changed."""
    shutil.copytree(swept[0] / "dense", tmp_path / "dense")
    for name in ("keep0.6", "keep0.3"):
        shutil.copytree(swept[0] / "out" / "points" / name, tmp_path / name)
    return tmp_path / "keep0.6", tmp_path / "keep0.3"


def test_a_sweep_trades_accuracy_for_forward_speed_and_size(swept):
    folder, out = swept
    sweep = json.loads((folder / "out" / "sweep.json").read_text())
    assert (sweep["quality"], sweep["lower_is_better"]) == ("accuracy", False)
    assert [cost["key"] for cost in sweep["costs"]] == ["onnx.forward", "size"]
    sizes = [point["metrics"]["size.onnx.bytes.pruned"]["value"] for point in sweep["points"]]
    assert sizes[0] > sizes[1]
    log = "".join(path.read_text() for path in (folder / "out" / "points").glob("*/log"))
    assert log.count(" gradients: made") == 1
    assert "| keep0.3" in out


def test_validate_finds_the_same_again_and_check_takes_it(answered, runs):
    code, out, err = answered("validate", runs[0], "--out", "again.json", "--quiet")
    assert code == 0, err
    before, after = metrics(runs[0] / "report.json"), metrics(runs[0].parent / "again.json")
    kinds = ("size.", "quality.", "parity.")
    assert {name for name in before if name.startswith(kinds)} <= set(after)
    for name, metric in after.items():
        assert metric == before[name] or not name.startswith(kinds), name
    assert "| onnx   |" in out
    assert answered("check", "again.json", "--baseline", runs[0])[0] == 0


def test_bench_times_the_same_shapes_again(answered, runs):
    code, out, err = answered("bench", runs[0], *FEW, "--out", "again.json")
    assert code == 0, err
    before, after = metrics(runs[0] / "report.json"), metrics(runs[0].parent / "again.json")
    assert set(after) == set(before)
    assert after[f"{STEM}.ideal"] == before[f"{STEM}.ideal"]
    assert after[f"{STEM}.speedup"]["value"] != before[f"{STEM}.speedup"]["value"]
    assert "forward b1 l16 on torch" in out


def test_without_the_dense_model_the_exported_ones_are_measured(answered, runs):
    shutil.rmtree(runs[0].parent / "dense")
    code, _, err = answered("validate", runs[0], "--out", "again.json", "--quiet")
    assert code == 0, err
    assert "the dense model `dense` was not found" in err
    before, after = metrics(runs[0] / "report.json"), metrics(runs[0].parent / "again.json")
    assert after["quality.accuracy.onnx"]["value"] == before["quality.accuracy.onnx"]["value"]
    assert "quality.accuracy.dense" not in after
    code, _, err = answered("bench", runs[0], *FEW, "--out", "timed.json")
    assert code == 0, err
    assert f"{STEM}.speedup" in metrics(runs[0].parent / "timed.json")


def test_runs_and_a_model_of_another_task_are_compared(answered, runs):
    other = runs[0].parent / "other"
    shutil.copytree(runs[0].parent / "dense", other)
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = dict(zip("012", ("x", "y", "z"), strict=True))
    config["label2id"] = {"x": 0, "y": 1, "z": 2}
    (other / "config.json").write_text(json.dumps(config))
    dense = runs[0] / "artifacts" / "onnx" / "dense"
    code, out, err = answered("compare", runs[0], runs[1], dense, other, *FEW, "--json")
    assert code == 0, err
    comparison = json.loads(out)
    accuracy = {
        name[-1]: metric["value"]
        for name, metric in comparison["metrics"].items()
        if name.startswith("quality.accuracy.")
    }
    reported = [metrics(run / "report.json") for run in runs]
    assert accuracy == {
        "A": reported[0]["quality.accuracy.onnx"]["value"],
        "B": reported[1]["quality.accuracy.onnx"]["value"],
        "C": reported[0]["quality.accuracy.dense"]["value"],
    }
    assert "latency.D.forward.b1.l16.speedup" in comparison["metrics"]
    (note,) = comparison["notes"]
    assert "other` has the labels `x, y, z`" in note


def test_a_text_is_no_measure_of_an_encoder(refused, runs):
    (runs[0].parent / "text.txt").write_text("Words.")
    err = refused(10, "compare", runs[0], runs[1], "--text", "text.txt", "--quiet")
    assert "needs labelled examples" in err
