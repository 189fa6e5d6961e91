"""Calibration texts that repeat themselves: inputs hardly vary, and every method still ends with a model."""

import json
import math

import pytest
from small import small_run

from numprune_export.recipe import builtin_dir

METHODS = {
    "fast": {"method": "fast"},
    "second order, affine": {
        "score": {"method": "fisher_obs", "metric": "identity"},
        "compensate": {"method": "closed_form", "affine": True},
    },
    "producers": {"score": "numerical", "compensate": {"method": "closed_form", "producers": {}}},
    "stat": {"score": "stat", "compensate": {"method": "closed_form", "order": "one_shot"}},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "products"),
    [("second order, affine", "highest"), *((method_name, "bfloat16") for method_name in METHODS)],
)
def test_a_language_model_is_pruned_on_one_word(method, products, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("word " * 1200)
    windows = {"texts": [str(text)], "sequences": 4, "tokens_per_sequence": 64, "batch": 4}
    report = small_run(
        tmp_path, **METHODS[method], matmul_precision=products, calibration=windows, evaluation=windows, targets={}
    )  # fmt: skip
    metrics = {name: metric.value for name, metric in report.metrics.items()}
    assert math.isfinite(metrics["quality.perplexity.pruned"])
    # It is fitted to this text, and does as well on it.
    assert metrics["quality.perplexity.pruned"] < 1.5 * metrics["quality.perplexity.dense"]


ENCODERS = {
    "best": {"method": "best"},
    "refit": {"score": "fisher", "allocate": "search", "compensate": "refit"},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ENCODERS)
def test_an_encoder_is_pruned_on_one_sentence(method, tmp_path):
    rows = [{"text": "My fellow Americans, good evening.", "label": n % 3} for n in range(24)]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = {"files": [str(file)], "max_length": 32, "batch": 8}
    report = small_run(
        tmp_path,
        **ENCODERS[method],
        model=str(builtin_dir() / "tiny-bert"),
        matmul_precision="bfloat16",
        calibration=labelled,
        evaluation=labelled,
        benchmark={"batches": [1], "lengths": [16], "samples": 5, "warmup": 1},
        parity={},
        targets={},
    )
    metrics = {name: metric.value for name, metric in report.metrics.items()}
    assert math.isfinite(metrics["quality.loss.pruned"])
    assert metrics["quality.loss.pruned"] < 1.2 * metrics["quality.loss.dense"]
