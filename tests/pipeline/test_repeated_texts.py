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
    [("second order, affine", "highest"), *((one, "bfloat16") for one in METHODS)],
)
def test_a_language_model_is_pruned_on_one_word(method, products, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("word " * 1200)
    windows = {"texts": [str(text)], "sequences": 4, "tokens_per_sequence": 64, "batch": 4}
    report = small_run(
        tmp_path, **METHODS[method], matmul_precision=products, calibration=windows, evaluation=windows, targets={}
    )  # fmt: skip
    found = {name: one.value for name, one in report.metrics.items()}
    assert math.isfinite(found["quality.perplexity.pruned"])
    # It is fitted to this text, and does as well on it.
    assert found["quality.perplexity.pruned"] < 1.5 * found["quality.perplexity.dense"]


ENCODERS = {
    "best": {"method": "best"},
    "refit": {"score": "fisher", "allocate": "search", "compensate": "refit"},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ENCODERS)
def test_an_encoder_is_pruned_on_one_sentence(method, tmp_path):
    rows = [{"text": "My fellow Americans, good evening.", "label": n % 3} for n in range(24)]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
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
    found = {name: one.value for name, one in report.metrics.items()}
    assert math.isfinite(found["quality.loss.pruned"])
    assert found["quality.loss.pruned"] < 1.2 * found["quality.loss.dense"]
