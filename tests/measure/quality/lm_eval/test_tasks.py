"""Whole tasks from local files: metrics with intervals, the same for every runtime, nothing fetched."""

import os
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra `[eval]`)")

from lm_eval.evaluator import evaluate as lm_eval_evaluate
from lm_eval.models.huggingface import HFLM

from numprune_export.core.errors import HubError, InputError, RecipeError
from numprune_export.core.progress import Silent
from numprune_export.measure.quality.lm_eval.evaluation import evaluate, max_length
from numprune_export.measure.quality.lm_eval.loading import load
from numprune_export.measure.quality.lm_eval.silence import silence
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_exporters.onnx.target import OnnxExporter

LENGTH = 128
GENERATION = """
task: go_on
dataset_path: json
dataset_kwargs: {data_files: {test: go_on.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{end}}"
target_delimiter: ""
generation_kwargs: {until: ["."], max_gen_toks: 8, do_sample: false}
metric_list:
  - metric: exact_match
"""


def scores(runner, tokenizer, settings, loaded=None):
    return evaluate(
        runner,
        tokenizer,
        loaded or load(settings, ()),
        settings,
        longest=LENGTH,
        conditions={"runtime": "torch"},
        observer=Silent(),
    )


def test_metrics_have_unit_samples_interval_and_conditions(model, tokenizer, settings):
    with TorchRunner(model, threads=None) as runner:
        metrics = scores(runner, tokenizer, settings())
    assert set(metrics) == {
        "lm_eval.sotu_endings.acc",
        "lm_eval.sotu_endings.acc_norm",
        "lm_eval.sotu_paragraphs.word_perplexity",
        "lm_eval.sotu_paragraphs.byte_perplexity",
        "lm_eval.sotu_paragraphs.bits_per_byte",
    }
    accuracy = metrics["lm_eval.sotu_endings.acc"]
    assert (accuracy.unit, accuracy.samples) == ("fraction", 8)
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.conditions["higher_is_better"] is True
    assert accuracy.conditions["max_length"] == LENGTH
    assert accuracy.conditions["limit"] == 8
    assert accuracy.conditions["fewshot"] == 0
    perplexity = metrics["lm_eval.sotu_paragraphs.word_perplexity"]
    assert perplexity.unit == "perplexity per word"
    assert perplexity.conditions["higher_is_better"] is False


def test_whole_tasks_come_out_as_with_lm_evals_own_class(model, tokenizer, settings, artifact):
    loaded = load(settings(), ())
    with silence():
        hugging_face = HFLM(pretrained=model, tokenizer=tokenizer, max_length=LENGTH, batch_size=2)
        theirs = lm_eval_evaluate(hugging_face, loaded.content, limit=8, bootstrap_iters=1000)[
            "results"
        ]
    runners = (
        TorchRunner(model, threads=None),
        OnnxExporter().open(artifact, threads=1, capacity=LENGTH),
    )
    for opened in runners:
        with opened as runner:
            metrics = scores(runner, tokenizer, settings(), loaded)
        for name, score in metrics.items():
            _, task, metric = name.split(".")
            assert score.value == pytest.approx(theirs[task][f"{metric},none"], rel=1e-4)
        error = theirs["sotu_endings"]["acc_stderr,none"]
        accuracy = metrics["lm_eval.sotu_endings.acc"]
        assert accuracy.high - accuracy.value == pytest.approx(1.959964 * error)


def test_generation_tasks_are_scored(model, tokenizer, settings, own_task):
    rows = '{"text": "My fellow", "end": "never said"}\n{"text": "We", "end": "nor this"}\n'
    chosen = settings(lm_eval=("go_on",), include=str(own_task("go_on", GENERATION, rows)))
    with TorchRunner(model, threads=None) as runner:
        metrics = scores(runner, tokenizer, chosen)
    exact_match = metrics["lm_eval.go_on.exact_match"]
    assert (exact_match.value, exact_match.unit, exact_match.samples) == (0.0, "fraction", 2)


def test_relative_data_is_found_from_any_working_directory(tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(settings().include, Path("/"))
    loaded = load(settings(include=relative), (Path("/"),))
    assert len(loaded.content["tasks"]) == 2
    assert Path.cwd() == tmp_path


def test_the_key_follows_the_files_and_the_settings(settings, own_task):
    rows = '{"text": "a", "end": "b"}\n'
    folder = own_task("go_on", GENERATION, rows)
    chosen = settings(lm_eval=("go_on",), include=str(folder))
    first = load(chosen, ()).key
    assert load(chosen, ()).key == first
    (folder / "go_on.jsonl").write_text(rows.replace("b", "c"))
    second = load(chosen, ()).key
    assert second != first
    assert load(chosen.model_copy(update={"limit": 3}), ()).key != second


@pytest.mark.slow
def test_mistakes_are_said_before_any_work(settings, own_task, tmp_path):
    with pytest.raises(RecipeError, match="has no task `sotu_ending`") as error:
        load(settings(lm_eval=("sotu_ending",)), ())
    assert "`sotu_endings`" in error.value.hint
    with pytest.raises(InputError, match="does not exist"):
        load(settings(include=str(tmp_path / "nowhere")), ())
    folder = own_task("go_on", GENERATION)
    with pytest.raises(InputError, match="data of task `go_on`"):
        load(settings(lm_eval=("go_on",), include=str(folder)), ())
    elsewhere = GENERATION.replace("dataset_path: json", "dataset_path: nobody/nothing")
    folder = own_task("go_on", elsewhere.replace("{data_files: {test: go_on.jsonl}}", "{}"))
    with pytest.raises(HubError, match="cannot be downloaded"):
        load(settings(lm_eval=("go_on",), include=str(folder)), ())


def test_code_in_a_task_file_needs_trust(settings, own_task):
    code = GENERATION.replace('doc_to_text: "{{text}}"', "doc_to_text: !function code.text")
    folder = own_task("go_on", code, '{"text": "We", "end": "x"}\n')
    (folder / "code.py").write_text("def text(row):\n    return row['text']\n")
    chosen = settings(lm_eval=("go_on",), include=str(folder))
    with pytest.raises(RecipeError, match="names Python code"):
        load(chosen, ())
    assert load(chosen.model_copy(update={"trust_code": True}), ()).content["tasks"]


def test_the_length_is_the_models_and_no_more_than_2048(settings):
    assert max_length(settings(max_length=None), 512) == 512
    assert max_length(settings(max_length=None), 8192) == 2048
    assert max_length(settings(max_length=64), 8192) == 64


def test_silence_puts_everything_back():
    import lm_eval.api.task as task

    before = task.tqdm, os.environ.get("DISABLE_MULTIPROC")
    with pytest.raises(KeyError), silence():
        assert task.tqdm([1, 2], desc="x") == [1, 2]
        raise KeyError
    assert (task.tqdm, os.environ.get("DISABLE_MULTIPROC")) == before
