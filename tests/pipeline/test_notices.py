"""A run says where what it saves is not what its recipe or the dense config promise."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import small_run

from numprune_export.core.progress import Silent
from numprune_export.recipe import builtin_dir

pytestmark = pytest.mark.slow  # whole runs


class Told(Silent):
    """In order: warnings, and the stages that begin."""

    def __init__(self):
        self.heard = []

    def begin(self, stage):
        self.heard.append(stage)

    def warn(self, message):
        self.heard.append(message)


def test_a_uniform_plan_with_added_biases_is_told_before_work_and_in_the_report(tmp_path):
    told = Told()
    report = small_run(
        tmp_path,
        told,
        keep=0.7,
        allocate="uniform",
        compensate={"method": "closed_form", "affine": True, "order": "one_shot"},
    )
    assert "stock checkpoint" in told.heard[0]
    assert "`compensate.affine: false` omits it" in told.heard[0]
    assert "stock checkpoint" in report.warnings[0]
    assert "stock checkpoint" in (tmp_path / "out" / "report.md").read_text()
    assert "stock checkpoint" in (tmp_path / "out" / "log").read_text()
    assert "auto_map" in json.loads((tmp_path / "out" / "model" / "config.json").read_text())


def test_a_head_beside_a_tied_config_is_saved_as_it_was_measured_and_told(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for path in (builtin_dir() / "tiny-llama").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    weights = load_file(model / "model.safetensors")
    head = torch.randn_like(weights["model.embed_tokens.weight"].float()).to(
        weights["model.embed_tokens.weight"].dtype
    )
    save_file(weights | {"lm_head.weight": head}, model / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))

    report = small_run(
        tmp_path,
        model=str(model),
        allocate="uniform",
        compensate={"method": "closed_form", "order": "one_shot"},
    )

    saved = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert saved["tie_word_embeddings"] is False
    assert "auto_map" not in saved  # a uniform plan without new biases keeps its promise
    kept = load_file(tmp_path / "out" / "model" / "model.safetensors")["lm_head.weight"]
    assert torch.equal(kept, head.float())
    (notice,) = [warning for warning in report.warnings if "tie_word_embeddings" in warning]
    assert "says `tie_word_embeddings: true`, but its weights have an untied head" in notice
