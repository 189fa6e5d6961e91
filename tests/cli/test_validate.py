"""`validate`: the same numbers again from a run's own files, and what is missing or another is said."""

import json
import shutil

import pytest
import torch

KINDS = ("size", "quality", "parity")


def metrics(path):
    return json.loads(path.read_text())["metrics"]


def of_kinds(measured, kinds=KINDS):
    return {name: metric for name, metric in measured.items() if name.split(".")[0] in kinds}


def test_it_finds_the_same_again_and_check_takes_it(answered, own_run, tmp_path):
    code, out, err = answered("validate", own_run, "--out", "again.json", "--quiet")
    assert code == 0, err
    before, after = metrics(own_run / "report.json"), metrics(tmp_path / "again.json")
    assert of_kinds(after) == of_kinds(before)
    assert "perplexity" in out
    assert "onnx, pruned" in out
    assert out.splitlines()[-3:] == ["json: again.json", "report: again.md", "page: again.html"]
    assert (tmp_path / "again.md").is_file()
    assert (tmp_path / "again.html").is_file()
    assert answered("check", "again.json", "--baseline", own_run)[0] == 0


def test_a_worse_model_is_found_worse(answered, own_run, tmp_path):
    from safetensors.torch import load_file, save_file

    place = own_run / "model" / "model.safetensors"
    tensors = load_file(place)
    tensors["model.layers.0.mlp.down_proj.weight"] *= 1.5
    save_file(tensors, place, metadata={"format": "pt"})
    code, _, err = answered("validate", own_run, "--quiet")
    assert code == 1, err
    assert "disagrees with PyTorch" in err


def test_without_the_dense_model_the_rest_is_measured_and_it_says_so(answered, own_run, tmp_path):
    shutil.rmtree(tmp_path / "dense")
    code, out, err = answered("validate", own_run, "--out", "again.json", "--quiet")
    assert code == 0, err
    assert "not measured: dense model: the dense model `dense` was not found" in err
    assert "| dense" not in out
    before, after = metrics(own_run / "report.json"), metrics(tmp_path / "again.json")
    assert "quality.perplexity.dense" not in after
    assert of_kinds(after, ("size",)) == of_kinds(before, ("size",)), "carried over"
    for name in ("quality.perplexity.pruned", "quality.perplexity.onnx"):
        assert after[name]["value"] == pytest.approx(before[name]["value"])
    assert "dense model" in json.loads((tmp_path / "again.json").read_text())["not_run"]


def test_a_folder_named_by_search_comes_before_the_working_folder(answered, own_run, tmp_path):
    shutil.copytree(tmp_path / "dense", tmp_path / "elsewhere" / "dense")
    config = tmp_path / "dense" / "config.json"
    config.write_text(config.read_text() + "\n")
    arguments = ("--search", "elsewhere", "--out", "again.json", "--quiet")
    code, _, err = answered("validate", own_run, *arguments)
    assert code == 0, err
    assert of_kinds(metrics(tmp_path / "again.json")) == of_kinds(metrics(own_run / "report.json"))


def test_another_dense_model_is_refused(refused, own_run, tmp_path):
    config = tmp_path / "dense" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert "the dense model found now" in refused(10, "validate", own_run, "--quiet")


def test_other_evaluation_texts_are_refused(refused, own_run, tmp_path):
    report = json.loads((own_run / "report.json").read_text())
    report["recipe"]["evaluation"]["seed"] = 2
    del report["sha256"]
    (own_run / "report.json").write_text(json.dumps(report))
    assert "evaluation texts found now" in refused(10, "validate", own_run, "--quiet")


def test_an_artifact_that_the_report_does_not_know_is_refused(refused, own_run):
    index = own_run / "artifacts" / "onnx" / "pruned" / "artifact.json"
    content = json.loads(index.read_text())
    content["files"]["model.onnx"] = "0" * 64
    index.write_text(json.dumps(content))
    assert "differs from the report" in refused(4, "validate", own_run, "--quiet")


@pytest.mark.parametrize("command", ["validate", "bench", "compare"])
def test_what_is_no_finished_run_is_refused(refused, own_run, tmp_path, command):
    more = [own_run] if command == "compare" else []
    (own_run / "report.json").unlink()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / ".numprune-sweep").touch()
    (tmp_path / "empty").mkdir()
    assert "is not finished" in refused(4, command, own_run, *more)
    assert "is a sweep, not a run" in refused(4, command, "sweep", *more)
    assert "`empty` is n" in refused(4, command, "empty", *more)


def test_pytorch_computes_on_the_threads_of_the_recipe(answered, own_run, monkeypatch):
    set_to, before = [], torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    code, _, err = answered("validate", own_run, "--quiet")
    assert code == 0, err
    assert set_to == [1, before], "by the command, and back by the test"
