"""Tasks of lm-eval in a whole run: every model and artifact is asked, and nothing else is redone."""

import pytest
from huggingface_hub import ModelCard
from small import small_run

from numprune_export.core.errors import RecipeError
from numprune_export.core.run_folder import LOG
from numprune_export.recipe import builtin_dir

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra `[eval]`)")

TASKS = {
    "lm_eval": ["sotu_endings"],
    "include": str(builtin_dir() / "tasks"),
    "limit": 10,
    "max_length": 96,  # longer than the evaluation windows
}


@pytest.mark.slow
def test_dense_masked_pruned_and_the_artifact_are_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    small_run(tmp_path)
    before = (tmp_path / "out" / LOG).read_text().count("\n")

    report = small_run(tmp_path, tasks=TASKS)
    metrics = {name: metric for name, metric in report.metrics.items() if ".lm_eval." in name}
    stages = ("dense", "masked", "pruned", "onnx")
    names = [f"quality.lm_eval.sotu_endings.acc.{stage}" for stage in stages]
    assert set(names) <= set(metrics)
    for name in names:
        assert metrics[name].samples == 10
        assert metrics[name].low < metrics[name].value < metrics[name].high
    assert metrics[names[2]].value == metrics[names[3]].value
    assert metrics[names[0]].conditions["runtime"].startswith("torch")
    assert metrics[names[3]].conditions["graph"] == "gqa"

    log = (tmp_path / "out" / LOG).read_text().splitlines()[before:]
    made = [line.split()[1].rstrip(":") for line in log if ": made in" in line]
    assert made == ["validate.dense", "validate"]

    assert "acc of sotu_endings" in (tmp_path / "out" / "report.md").read_text()
    results = ModelCard.load(tmp_path / "out" / "model" / "README.md").data.eval_results
    (accuracy,) = [eval_result for eval_result in results if eval_result.metric_type == "acc"]
    assert accuracy.dataset_name == "lm-eval: sotu_endings"
    assert accuracy.metric_value == metrics[names[2]].value


def test_an_encoder_is_not_asked(tmp_path):
    labelled = {"files": [str(builtin_dir() / "data" / "presidents_dev.jsonl")]}
    with pytest.raises(RecipeError, match="`tasks` are supported for language models only"):
        small_run(
            tmp_path,
            model=str(builtin_dir() / "tiny-bert"),
            calibration=labelled | {"sequences": 32},
            evaluation=labelled,
            tasks=TASKS,
        )
    assert not (tmp_path / "out").exists()
