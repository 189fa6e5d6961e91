"""`bench`: a run timed again by its own protocol, and models and artifacts by themselves."""

import json
import shutil

import pytest
import torch
from command import command
from report import sample
from small import small_recipe

from numprune_export.core.errors import OutputError
from numprune_export.recipe import builtin_dir
from numprune_export.workflows.remeasure.new_report import write


def report(path):
    return json.loads(path.read_text())


def renewed(run):
    (path,) = run.glob("report-*.json")
    return report(path)


@pytest.mark.slow
def test_a_run_is_timed_again_beside_its_old_report(answered, own_run):
    code, out, err = answered("bench", own_run, "--quiet")
    assert code == 0, err
    old, new = report(own_run / "report.json"), renewed(own_run)
    assert set(new["metrics"]) == set(old["metrics"])
    for name, metric in new["metrics"].items():
        timed = name.startswith(("latency.", "memory."))
        assert metric["unit"] == old["metrics"][name]["unit"]
        assert metric["conditions"] == old["metrics"][name]["conditions"] or not timed, name
        assert metric == old["metrics"][name] or timed, name
    stem = "latency.onnx.decode.speedup"
    assert new["metrics"][stem]["value"] != old["metrics"][stem]["value"]
    assert new["latency_samples"].keys() == old["latency_samples"].keys()
    assert "Measured now: latency, memory" in new["warnings"][0]
    assert "decode on onnx" in out
    place = next(own_run.glob("report-*.json"))
    markdown, page = place.with_suffix(".md"), place.with_suffix(".html")
    assert out.splitlines()[-3:] == [f"json: {place}", f"report: {markdown}", f"page: {page}"]
    assert new["summary"] in markdown.read_text()
    assert new["summary"] in page.read_text()
    # Noise may make it a regression on a busy machine; comparable it must be.
    code, _, err = answered("check", own_run, "--baseline", own_run)
    assert code == 0, err
    code, _, err = answered("check", *own_run.glob("report-*.json"), "--baseline", own_run)
    assert code in (0, 9), err


def test_another_protocol_is_followed_and_recorded(answered, own_run, tmp_path):
    arguments = ("--samples", "6", "--threads", "2", "--target", "onnx", "--out", "new.json")
    code, _, err = answered("bench", own_run, *arguments, "--quiet")
    assert code == 0, err
    new = report(tmp_path / "new.json")
    latency = new["metrics"]["latency.onnx.decode.dense.p50_ms"]
    assert (latency["samples"], latency["conditions"]["threads"]) == (6, 2)
    assert new["recipe"]["benchmark"]["samples"] == 6
    assert answered("check", "new.json", "--baseline", own_run)[0] == 10


def test_without_the_dense_model_the_artifacts_are_timed_all_the_same(answered, own_run, tmp_path):
    shutil.rmtree(tmp_path / "dense")
    code, _, err = answered("bench", own_run, "--out", "new.json", "--quiet")
    assert code == 0, err
    old, new = report(own_run / "report.json"), report(tmp_path / "new.json")
    ideal = "latency.onnx.decode.ideal"
    assert new["metrics"][ideal]["value"] == old["metrics"][ideal]["value"]
    assert not [name for name in new["metrics"] if name.startswith("latency.torch.")]
    assert "the dense model `dense` was not found" in new["not_run"]["dense model"]
    assert "not measured: torch" in err


def test_an_artifact_and_a_model_are_timed_by_themselves(answered, small_run, tmp_path):
    artifact = small_run / "artifacts" / "onnx" / "dense"
    code, out, err = answered(
        "bench", artifact, small_run.parent / "dense", "--samples", "5", "--quiet"
    )
    assert code == 0, err
    assert "artifact of `onnx`" in out
    assert "`llama` in PyTorch" in out
    assert "peak memory" in out
    assert out.count("prompt_tokens 16") == 1  # the protocol of the run that the artifact lies in
    assert out.count("prompt_tokens 128") == 1


def test_a_run_of_which_nothing_can_run_is_refused(refused, own_run):
    content = report(own_run / "report.json")
    content["artifacts"] = {}
    content["recipe"]["benchmark"]["reference"] = False
    del content["sha256"]
    (own_run / "report.json").write_text(json.dumps(content))
    err = refused(8, "bench", own_run, "--quiet")
    assert "can run here: it has no artifacts" in err


def test_wrong_options_are_refused(refused, small_run):
    assert "has no artifact of target `trt`" in refused(2, "bench", small_run, "--target", "trt")
    assert "`--out` names one file" in refused(2, "bench", small_run, small_run, "--out", "x.json")
    assert "no model at `nowhere`" in refused(4, "bench", "nowhere")


@pytest.mark.parametrize("name", ["new.md", "new.html"])
def test_the_json_does_not_take_the_name_of_a_page(name, tmp_path):
    with pytest.raises(OutputError, match="a page of it has the same name") as refusal:
        write(tmp_path / name, sample.report())
    assert "new.json" in refusal.value.hint
    assert not (tmp_path / name).exists()


@pytest.fixture(scope="module")
def two_targets(tmp_path_factory):
    """A finished run of two targets, made once; do not change it."""
    folder = tmp_path_factory.mktemp("two-targets")
    shutil.copytree(builtin_dir() / "tiny-llama", folder / "dense")
    recipe = small_recipe(folder, model="dense", targets={"onnx": {}, "onnx-cuda": {}})
    done = command("run", recipe, "--out", folder / "run", "--quiet")
    assert done.code == 0, done.err
    return folder / "run"


@pytest.mark.slow
def test_a_target_that_was_not_asked_for_is_told(answered, two_targets, tmp_path):
    code, _, err = answered(
        "bench", two_targets, "--target", "onnx", "--out", "new.json", "--quiet"
    )
    assert code == 0, err
    assert report(tmp_path / "new.json")["not_run"]["onnx-cuda"] == "not requested"
    assert "not measured: onnx-cuda: not requested" in err


def test_what_cannot_run_here_is_told_beside_what_is_missing(answered, two_targets, tmp_path):
    """Read from the report: whether a GPU is here decides which of the two it has."""
    shutil.copytree(two_targets, tmp_path / "run")
    code, _, err = answered("bench", "run", "--out", "new.json", "--quiet")
    assert code == 0, err
    missing = report(tmp_path / "new.json")["not_run"]
    assert "the dense model `dense` was not found" in missing["dense model"]
    assert missing["torch"] == "its rows need the dense model"
    if torch.cuda.is_available():
        assert "onnx-cuda" not in missing
    else:
        assert "CUDA" in missing["onnx-cuda"]
