"""The whole chain on the shipped tiny model: what comes out, and that it is true."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import command
from safetensors.torch import load_file
from small import small_recipe
from transformers import AutoModelForCausalLM

import numprune_export
from numprune_export.export.artifact import Artifact, sha256_of
from numprune_export.export.targets import find
from numprune_export.recipe import builtin_dir
from numprune_export.report.html import page
from numprune_export.report.store import read

NAMES = [
    "size.parameters.dense",
    "size.parameters.pruned",
    "size.parameters.ratio",
    "size.bytes.dense",
    "size.bytes.pruned",
    "size.prunable_parameters.ratio",
    "quality.perplexity.dense",
    "quality.perplexity.masked",
    "quality.perplexity.pruned",
    "quality.perplexity.onnx",
    "parity.onnx.max_abs_error",
    "parity.onnx.kl_mean",
    "parity.onnx.top1_agreement",
    "parity.onnx.greedy_match",
    "latency.onnx.prefill.dense.p50_ms",
    "latency.onnx.prefill.pruned.p50_ms",
    "latency.onnx.decode.dense.p50_ms",
    "latency.onnx.decode.pruned.p50_ms",
    "latency.onnx.prefill.speedup",
    "latency.onnx.prefill.speedup_low",
    "latency.onnx.prefill.speedup_high",
    "latency.onnx.prefill.ideal",
    "latency.onnx.decode.speedup",
    "latency.onnx.decode.speedup_low",
    "latency.onnx.decode.speedup_high",
    "latency.onnx.decode.ideal",
    "latency.torch.decode.dense.p50_ms",
    "memory.onnx.dense.peak_bytes",
    "memory.onnx.pruned.peak_bytes",
    "time.score_s",
    "time.allocate_s",
    "time.prune_s",
    "time.export.onnx.pruned_s",
    "time.validate_s",
    "time.benchmark_s",
    "time.total_s",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    result = command("run", str(small_recipe(folder)), "--out", "out", cwd=folder)
    assert result.code == 0, result.err
    return folder / "out", result


@pytest.fixture(scope="module")
def report(finished):
    return json.loads((finished[0] / "report.json").read_text())


@pytest.mark.slow
def test_every_promised_metric_is_there_with_unit_and_samples(report):
    metrics = report["metrics"]
    assert [name for name in NAMES if name not in metrics] == []
    for name, metric in metrics.items():
        assert math.isfinite(float(metric["value"])), name
        assert metric["unit"], name
        assert metric["samples"] >= 1, name


def test_the_verdict_goes_to_stdout_and_progress_to_stderr(finished, report):
    _, result = finished
    assert report["summary"] in result.out
    assert "validate.dense" in result.err
    assert "validate.dense" not in result.out


def test_sizes_are_those_of_the_files(finished, report):
    folder, _ = finished
    metrics = report["metrics"]
    saved = load_file(folder / "model" / "model.safetensors")
    count = sum(tensor.numel() for tensor in saved.values())
    assert metrics["size.parameters.pruned"]["value"] == count
    assert metrics["size.bytes.pruned"]["value"] == 4 * count
    plan = json.loads((folder / "plan" / "plan.json").read_text())
    gone = plan["prunable_parameters"] - plan["kept_parameters"]
    assert metrics["size.parameters.dense"]["value"] == count + gone
    assert plan["keep"] <= 0.7
    artifact = Artifact.load(folder / "artifacts" / "onnx" / "pruned")
    assert metrics["size.onnx.bytes.pruned"]["value"] == artifact.size_bytes
    assert all(
        sha256_of(artifact.folder / name) == digest for name, digest in artifact.files.items()
    )


def test_the_page_is_made_of_the_report_which_holds_rounds_scores_and_heads(finished, report):
    folder, _ = finished
    stored = read(folder / "report.json")
    assert (folder / "report.html").read_text(encoding="utf-8") == page.render(stored)
    for name, times in report["latency_samples"].items():
        median = report["metrics"][f"{name}.p50_ms"]
        assert len(times) == median["samples"]
        assert np.median(times) == pytest.approx(median["value"])
    timed = {name.removesuffix(".p50_ms") for name in report["metrics"] if name.endswith(".p50_ms")}
    assert set(report["latency_samples"]) == timed
    plan = json.loads((folder / "plan" / "plan.json").read_text())
    for site, told in zip(plan["sites"], report["plan"], strict=True):
        assert told["kept_units"] == (site["kept"] if site["kind"] == "attention" else None)
        spread = report["scores"][site["name"]]
        assert [len(spread["kept"]), len(spread["removed"])] == [
            7 * bool(site["kept"]),
            7 * (len(site["kept"]) < site["units"]),
        ]


def loss(logits, tokens):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def test_perplexities_are_reproduced_from_outside(finished, report):
    """The dense, the pruned and the exported model, each loaded without the pipeline."""
    folder, _ = finished
    (text_file,) = report["recipe"]["evaluation"]["texts"]
    text = Path(text_file).read_text()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    chosen = np.sort(np.random.default_rng(1).permutation(len(ids) // 48)[:4])
    tokens = torch.tensor(ids[: len(ids) // 48 * 48]).reshape(-1, 48)[chosen]

    def reported(name):
        return report["metrics"][f"quality.perplexity.{name}"]["value"]

    dense = AutoModelForCausalLM.from_pretrained(builtin_dir() / "tiny-llama", dtype=torch.float32)
    pruned = numprune_export.load(folder / "model")
    artifact = Artifact.load(folder / "artifacts" / "onnx" / "pruned")
    with torch.no_grad():
        assert reported("dense") == pytest.approx(
            loss(dense(tokens).logits, tokens).exp().item(), rel=1e-4
        )
        assert reported("pruned") == pytest.approx(
            loss(pruned(tokens).logits, tokens).exp().item(), rel=1e-4
        )
    with find("onnx").open(artifact, threads=1, capacity=48) as runner:
        logits = torch.from_numpy(runner.prefill(tokens.numpy(), all_positions=True))
    assert reported("onnx") == pytest.approx(loss(logits, tokens).exp().item(), rel=1e-4)
    assert reported("dense") < reported("pruned") < reported("masked")


def test_the_checkpoint_says_where_it_came_from(finished):
    section = json.loads((finished[0] / "model" / "config.json").read_text())["numprune"]
    assert section["method"]["score"]["method"]
    assert section["parent"]["reference"].endswith("tiny-llama")
    assert len(section["calibration_sha256"]) == len(section["parent"]["sha256"]) == 64
    assert section["versions"]["numprune-export"] == numprune_export.__version__


def test_the_log_tells_every_stage_once(finished):
    lines = (finished[0] / "log").read_text().splitlines()
    assert lines.pop(0).endswith(" device: cpu, PyTorch has no CUDA device")
    assert lines.pop(0).endswith(" calibration: windows of small 16")
    assert lines.pop(0).endswith(" evaluation: windows of small 4")
    assert [line.split()[1] for line in lines[:8]] == [
        "score:",
        "allocate:",
        "prune:",
        "export.onnx.dense:",
        "export.onnx.pruned:",
        "validate.dense:",
        "validate:",
        "benchmark:",
    ]
    assert all("made in" in line for line in lines[:8])


def test_running_again_does_nothing_and_reports_the_same(finished, report):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("stage.json")}
    again = command("run", "small.yaml", "--out", "out", cwd=folder.parent)
    assert again.code == 0, again.err
    assert again.err.count("as before") == 8
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("stage.json")} == before
    assert json.loads((folder / "report.json").read_text())["metrics"] == report["metrics"]


@pytest.mark.parametrize(
    ("change", "unchanged", "redone"),
    [
        (
            "compensate=bias",
            ("scores", "plan", "artifacts/onnx/dense", "validate-dense"),
            ("model", "artifacts/onnx/pruned", "validate", "benchmark"),
        ),
        (
            "calibration.seed=7",
            ("artifacts/onnx/dense", "validate-dense"),
            (
                "scores",
                "plan",
                "model",
                "artifacts/onnx/pruned",
                "validate",
                "benchmark",
            ),
        ),
    ],
)
def test_a_changed_recipe_redoes_only_what_it_reaches(
    finished, tmp_path, change, unchanged, redone
):
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "out")
    recipe = small_recipe(tmp_path)
    result = command("run", str(recipe), "--out", "out", "--set", change, "--quiet", cwd=tmp_path)
    assert result.code == 0, result.err

    def kept(stage):
        ours, theirs = (run / stage / "stage.json" for run in (tmp_path / "out", folder))
        return ours.read_text() == theirs.read_text()

    assert [stage for stage in unchanged if not kept(stage)] == []
    assert [stage for stage in redone if kept(stage)] == []
    assert result.err == ""
    weights = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert ("model.layers.0.mlp.down_proj.bias" in weights) == (change == "compensate=bias")
