"""The commands that only look."""

import json
import sys

import pytest

from numprune_export import recipe, targets
from numprune_export.cli import app
from numprune_export.recipe import builtin_dir


@pytest.fixture
def printed(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["numprune-export", *arguments])
        with pytest.raises(SystemExit) as exit_:
            app.main()
        captured = capsys.readouterr()
        assert not exit_.value.code, captured.err
        return captured.out

    return call


def test_inspect_says_what_can_go(printed):
    found = json.loads(printed("inspect", str(builtin_dir() / "tiny-llama"), "--json"))
    assert found["architecture"] == "LlamaForCausalLM"
    assert found["parameters"] == 869_504
    assert found["prunable_parameters"] == 4 * (4 * 12_288 + 352 * 384)
    assert found["sites"][0] == {
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


def test_recipes_lists_every_shipped_recipe_with_its_purpose(printed):
    lines = printed("recipes").splitlines()
    assert [line.split()[0] for line in lines] == recipe.builtin_names()
    assert all(len(line.split()) > 4 for line in lines)


def test_targets_lists_every_target_and_its_state(printed):
    out = printed("targets")
    for name in targets.names():
        assert name in out
    assert "ready" in out


def test_doctor_names_what_is_missing_and_how_to_install_it(printed, monkeypatch):
    from importlib.metadata import PackageNotFoundError, version

    from numprune_export.cli import describe

    def without_gguf(name):
        if name == "gguf":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(describe, "version", without_gguf)
    out = printed("doctor")
    assert "torch" in out
    assert "pip install 'numprune-export[gguf]'" in out
    assert "onnx" in out


def test_schema_prints_the_shipped_file(printed):
    assert printed("schema") == (builtin_dir() / "schema.json").read_text(encoding="utf-8")
