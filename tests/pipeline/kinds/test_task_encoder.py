"""The whole chain on the shipped tiny BERT classifier: what comes out, and that it is true."""

import json
import math
import re

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from command import command
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from numprune_export.export.artifact import Artifact
from numprune_export.models.families import FAMILIES
from numprune_export.pruning.allocate import cost as macs
from numprune_export.recipe import builtin_dir

DATA = builtin_dir() / "data"
EXAMPLES = 96

NAMES = [
    *(
        f"quality.{score}.{stage}"
        for score in ("accuracy", "loss")
        for stage in ("dense", "masked", "pruned", "onnx")
    ),
    "parity.onnx.max_abs_error",
    "parity.onnx.dense.top1_agreement",
    "latency.onnx.forward.b1.l16.speedup",
    "latency.onnx.forward.b4.l16.ideal",
    "latency.torch.forward.b1.l16.dense.p50_ms",
    "memory.onnx.dense.peak_bytes",
    "memory.onnx.pruned.peak_bytes",
    "size.parameters.ratio",
    "size.macs.ratio",
    "change.accuracy.pruned",
    "change.loss.onnx",
    "time.gradients_s",
    "time.export.onnx.pruned_s",
]


def recipe(folder, **changes):
    content = {
        "version": 1,
        "model": str(builtin_dir() / "tiny-bert"),
        "keep": 0.5,
        "calibration": {
            "files": [str(DATA / "presidents_train.jsonl")], "sequences": 128, "max_length": 64,
        },
        "evaluation": {
            "files": [str(DATA / "presidents_dev.jsonl")], "sequences": EXAMPLES, "max_length": 64,
        },
        "score": "fisher",
        "allocate": "search",
        "compensate": "refit",
        "benchmark": {"batches": [1, 4], "lengths": [16], "samples": 5, "warmup": 1},
        "threads": 1,
    }  # fmt: skip
    path = folder / "encoder.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    result = command("run", str(recipe(folder)), "--out", "out", cwd=folder)
    assert result.code == 0, result.err
    return folder / "out"


@pytest.fixture(scope="module")
def report(finished):
    return json.loads((finished / "report.json").read_text())


@pytest.mark.slow
def test_every_promised_metric_is_there(report):
    metrics = report["metrics"]
    assert [name for name in NAMES if name not in metrics] == []
    for name, metric in metrics.items():
        assert math.isfinite(float(metric["value"])), name
        assert metric["unit"], name
    assert "accuracy" in report["summary"]
    assert "over 2 shapes" in report["summary"] or "and forward" in report["summary"]


def test_the_plan_takes_half_of_the_macs_and_no_more(finished):
    assert 0.45 < kept_macs(finished) <= 0.5


def kept_macs(finished):
    """Fraction of the dense model's, counted anew from the widths of the written model."""
    model = AutoModelForSequenceClassification.from_pretrained(
        finished / "model", trust_remote_code=True
    )
    dense = AutoModelForSequenceClassification.from_pretrained(builtin_dir() / "tiny-bert")
    family = FAMILIES["bert"]
    length = float(np.mean([len(row) for row in examples("train", 128)[0]]))
    whole, kept = (
        macs.whole(sites, macs.unit_macs(sites, dense.config.hidden_size, length))
        for sites in (family.sites(dense), family.sites(model))
    )
    return kept / whole


@pytest.mark.slow
def test_the_best_preset_takes_the_place_of_a_recipes_sections_and_may_empty_sublayers(tmp_path):
    changes = ["method=best", "keep=0.1", "rounds=2", "allocate.attention=[1.0, 3.0]"]
    given = [part for change in changes for part in ("--set", change)]
    result = command("run", str(recipe(tmp_path)), "--out", "out", *given, cwd=tmp_path)
    assert result.code == 0, result.err
    assert 0.05 < kept_macs(tmp_path / "out") <= 0.1
    plan = json.loads((tmp_path / "out" / "plan" / "plan.json").read_text())
    assert [] in [site["kept"] for site in plan["sites"]]
    made = json.loads((tmp_path / "out" / "model" / "config.json").read_text())["numprune"][
        "method"
    ]
    assert (made["score"]["method"], made["allocate"]["method"]) == ("fisher_obs", "curves")
    assert (made["compensate"]["affine"], made["rounds"]) == (True, 2)
    metrics = json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]
    tried = [metrics[f"allocation.divergence.attention_{weight}x"]["value"] for weight in (1, 3)]
    chosen = metrics["allocation.attention_weight"]["value"]
    assert min(tried) == metrics[f"allocation.divergence.attention_{chosen:g}x"]["value"] > 0
    accuracy = [metrics[f"quality.accuracy.{stage}"]["value"] for stage in ("pruned", "onnx")]
    assert accuracy[0] == accuracy[1] > 0.6


def examples(part="dev", count=EXAMPLES):
    """The drawn evaluation (or calibration) examples: token ids as the tokenizer gives them, and labels."""
    text = (DATA / f"presidents_{part}.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:count])
    tokenizer = AutoTokenizer.from_pretrained(builtin_dir() / "tiny-bert")
    texts = [rows[index]["text"] for index in drawn]
    ids = tokenizer(texts, truncation=True, max_length=64)["input_ids"]
    return ids, [rows[index]["label"] for index in drawn]


def test_the_ratio_of_macs_is_that_of_the_shapes(finished, report):
    ratio, under = (report["metrics"]["size.macs.ratio"][key] for key in ("value", "conditions"))
    assert 0 < ratio < 0.6
    length = round(float(np.mean([len(row) for row in examples()[0]])))
    assert under == {"length": length}
    # The head, which no plan makes smaller, is a small part of this model too.
    assert abs(ratio - kept_macs(finished)) < 0.03
    assert re.search(r"\| macs +\|", (finished / "report.md").read_text())


def test_a_change_is_paired_by_example(finished, report):
    """Counted anew: the dense and the pruned model on the same resamples of the examples."""
    metrics = report["metrics"]
    change = metrics["change.accuracy.pruned"]
    dense, pruned = (metrics[f"quality.accuracy.{name}"] for name in ("dense", "pruned"))
    assert change["value"] == pytest.approx(pruned["value"] - dense["value"])
    right = {
        name: correct(folder)
        for name, folder in (("dense", builtin_dir() / "tiny-bert"), ("pruned", finished / "model"))
    }
    drawn = np.random.default_rng(0).integers(0, EXAMPLES, (1000, EXAMPLES))
    changes = right["pruned"][drawn].mean(1) - right["dense"][drawn].mean(1)
    low, high = np.percentile(changes, [2.5, 97.5])
    assert (change["low"], change["high"]) == pytest.approx((low, high))
    assert change["conditions"]["cut"] == dense["conditions"]["cut"]
    page = (finished / "report.md").read_text()
    assert f"({change['low']:+.4f} to {change['high']:+.4f})" in page
    assert f"Truncated to 64 tokens: {change['conditions']['cut']} of {EXAMPLES} texts" in page


def correct(folder):
    """Whether a model in PyTorch answers each example rightly, (examples,)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    ids, labels = examples()
    with torch.no_grad():
        answers = [int(model(torch.tensor([row])).logits.argmax()) for row in ids]
    return np.asarray(answers) == np.asarray(labels)


def test_the_artifact_alone_gives_the_reported_accuracy(finished, report):
    """ONNX Runtime and nothing of this package: no trace of a mask is left to apply."""
    artifact = Artifact.load(finished / "artifacts" / "onnx" / "pruned")
    session = onnxruntime.InferenceSession(artifact.folder / artifact.entry)
    names = {port.name for port in session.get_inputs()}
    ids, labels = examples()
    config = json.loads((finished / "model" / "config.json").read_text())
    numbers = config.get("label2id", {})
    right = 0
    for row, label in zip(ids, labels, strict=True):
        given = {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)}
        if "token_type_ids" in names:
            given["token_type_ids"] = np.zeros((1, len(row)), np.int64)
        answer = int(session.run(None, given)[0].argmax())
        right += answer == (numbers[label] if isinstance(label, str) else label)
    reported = report["metrics"]["quality.accuracy.onnx"]["value"]
    assert right / len(ids) == pytest.approx(reported)


@pytest.mark.slow
def test_a_budget_in_milliseconds_is_predicted_and_then_measured(tmp_path):
    settings = {"method": "latency", "batch": 4, "length": 32, "points": 4, "rounds": 3}
    path = recipe(tmp_path, allocate=settings, keep=0.7)
    cache = {"NUMPRUNE_EXPORT_CACHE": str(tmp_path / "cache")}
    result = command("run", str(path), "--out", "out", cwd=tmp_path, **cache)
    assert result.code == 0, result.err
    table = json.loads((tmp_path / "out" / "latency" / "latency.json").read_text())["table"]
    assert list(table["milliseconds"]["attention"]) == [str(n) for n in range(1, 5)]
    assert max(map(int, table["milliseconds"]["mlp"])) == 256
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    limit = report["metrics"]["budget.onnx.b4.l32.limit_ms"]["value"]
    assert limit == pytest.approx(0.7 * table["dense_ms"])
    predicted = report["metrics"]["budget.onnx.b4.l32.predicted_ms"]
    assert 0 < predicted["value"] <= limit * 1.0001
    assert predicted["conditions"]["table"] == "measured"
    assert report["metrics"]["latency.onnx.forward.b4.l32.pruned.cpu_ms"]["value"] > 0
    assert report["metrics"]["size.parameters.ratio"]["value"] < 1
    page = (tmp_path / "out" / "report.md").read_text()
    assert "## Latency budget" in page
    assert "| onnx, b4 l32 |" in page

    # Another run folder, other weights' scores: the table is there, at the speed of the day.
    path = recipe(tmp_path, allocate=settings, keep=0.6)
    result = command("run", str(path), "--out", "other", cwd=tmp_path, **cache)
    assert result.code == 0, result.err
    again = json.loads((tmp_path / "other" / "latency" / "latency.json").read_text())
    factor = again["table"]["dense_ms"] / table["dense_ms"]
    wanted = {n: factor * ms for n, ms in table["milliseconds"]["mlp"].items()}
    assert again["table"]["milliseconds"]["mlp"] == pytest.approx(wanted)
    assert "| found, 0.0" in (tmp_path / "other" / "report.md").read_text()


@pytest.mark.slow
def test_error_curves_meet_a_budget_in_milliseconds(tmp_path):
    timing = {"batch": 4, "length": 32, "points": 4, "rounds": 3}
    settings = {"method": "curves", "cost": "milliseconds", "timing": timing, "align_to": 1,
        "attention": 1.0}  # fmt: skip
    path = recipe(tmp_path, score="fisher_obs", allocate=settings, keep=0.6, compensate="none")
    result = command("run", str(path), "--out", "out", cwd=tmp_path)
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]
    limit, predicted = (
        metrics[f"budget.onnx.b4.l32.{name}"]["value"] for name in ("limit_ms", "predicted_ms")
    )
    dense = metrics["budget.onnx.b4.l32.dense_ms"]["value"]
    assert limit == pytest.approx(0.6 * dense)
    # Less than the dearest single unit stays unspent.
    assert 0.5 * dense < predicted <= limit * 1.0001
    assert metrics["latency.onnx.forward.b4.l32.pruned.cpu_ms"]["value"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "score": "fisher_obs",
                "allocate": {
                    "method": "curves",
                    "cost": "milliseconds",
                    "timing": {"milliseconds": 1e-6, "points": 2, "rounds": 3},
                },
            },
            "the smallest possible is",
        ),
        (
            {"allocate": {"method": "latency", "target": "trt"}},
            "is not one of the recipe's targets",
        ),
        (
            {"allocate": {"method": "latency", "milliseconds": 1e-6, "points": 2, "rounds": 3}},
            "the smallest possible is",
        ),
    ],
)
def test_a_budget_in_milliseconds_that_cannot_be_is_said(tmp_path, changes, message):
    result = command("run", str(recipe(tmp_path, **changes)), "--out", "out", cwd=tmp_path)
    assert result.code == 2, result.err
    assert message in result.err


def test_running_again_does_nothing(finished):
    again = command("run", "encoder.yaml", "--out", "out", cwd=finished.parent)
    assert again.code == 0, again.err
    begun = [line for line in again.err.splitlines() if line.endswith(" ...")]
    assert len(begun) == again.err.count("as before") > 6


def test_no_moments_are_gathered_where_nothing_reads_them(finished):
    """Scores are gradients, and the refit gathers its own."""
    assert (finished / "gradients" / "gradients.safetensors").is_file()
    assert not (finished / "statistics").exists()


def test_a_language_models_text_is_refused_for_an_encoder(tmp_path):
    text = {"texts": [str(DATA / "sotu_2011_2021.txt")]}
    result = command("run", str(recipe(tmp_path, evaluation=text)), "--out", "out", cwd=tmp_path)
    assert result.code == 2
    assert "has a task head; it cannot be evaluated on plain text" in result.err
    assert not (tmp_path / "out" / "statistics").exists()


def test_an_encoder_writes_no_text(tmp_path):
    result = command("run", str(recipe(tmp_path, generated_text=4)), "--out", "out", cwd=tmp_path)
    assert result.code == 2
    assert "`generated_text` is supported for language models only" in result.err


def test_labelled_data_is_refused_for_a_language_model(tmp_path):
    tiny_llama = str(builtin_dir() / "tiny-llama")
    result = command("run", str(recipe(tmp_path, model=tiny_llama)), "--out", "out", cwd=tmp_path)
    assert result.code == 2
    assert "is a causal language model; it cannot be evaluated on labelled data" in result.err


def test_fisher_scores_of_a_language_model_are_refused_before_any_work(tmp_path):
    text = {"texts": [str(DATA / "sotu_2011_2021.txt")], "tokens_per_sequence": 64}
    path = recipe(
        tmp_path, model=str(builtin_dir() / "tiny-llama"), calibration=text, evaluation=text
    )
    result = command("run", str(path), "--out", "out", cwd=tmp_path)
    assert result.code == 2
    assert "`score: fisher` needs a model with a task head" in result.err


def test_a_budget_that_no_plan_can_meet_says_the_smallest(tmp_path):
    search = {"method": "search", "min_keep": 0.8}
    path = recipe(tmp_path, allocate=search, keep=0.3)
    result = command("run", str(path), "--out", "out", cwd=tmp_path)
    assert result.code == 2
    assert "the smallest possible is 0.8" in result.err


def test_a_head_of_the_wrong_kind_for_a_target_is_said(tmp_path):
    path = recipe(tmp_path, targets={"trt-rtx": {}})
    result = command("run", str(path), "--out", "out", cwd=tmp_path)
    assert result.code == 2
    assert "target `trt-rtx` does not support encoders yet" in result.err
    assert not (tmp_path / "out" / "gradients").exists()


@torch.no_grad()
def test_masked_and_pruned_are_different_models_and_the_tuning_is_logged(finished, report):
    metrics = report["metrics"]
    losses = {name: metrics[f"quality.loss.{name}"]["value"] for name in ("masked", "pruned")}
    assert losses["masked"] != losses["pruned"]
    assert "tune layers.0.attention: tuned" in (finished / "log").read_text()
