"""A run whose calibration mixes text sources and whose evaluation measures several."""

import json

import pytest
import yaml
from command import command
from small import BRIEF, small_recipe

import numprune_export
from numprune_export.data.corpus import draw
from numprune_export.data.corpus_settings import Corpus
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.recipe import builtin_dir
from numprune_export.report.html import page
from numprune_export.report.store import read

ROWS = {"texts": ["letters.jsonl"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    rows = (builtin_dir() / "data" / "presidents_train.jsonl").read_text().splitlines()[:100]
    (folder / "letters.jsonl").write_text("\n".join(rows))
    length = {"tokens_per_sequence": 40, "seed": 1}
    sections = BRIEF | {
        "calibration": {
            "mix": [
                {"texts": ["small.txt"], "share": 0.3},
                {"name": "other", "texts": ["letters.jsonl"], "share": 0.6},
            ],
            "sequences": 20,
            "tokens_per_sequence": 64,
        },
        "evaluation": {"mix": [{"name": "speeches", "texts": ["held.txt"]}, ROWS], "sequences": 4}
        | length,
        "targets": {},
        "gate": {
            "max": {
                "quality.perplexity_ratio.mean.pruned": 9.0,
                "quality.perplexity_ratio.worst.pruned": 1.0,
                "quality.perplexity_ratio.letters.pruned": 9.0,
            }
        },
    }
    path = small_recipe(folder, **sections)
    (folder / "held.txt").write_text((folder / "small.txt").read_text()[30_000:])
    result = command("run", str(path), "--out", "out", cwd=folder)
    assert result.code == 0, result.err
    return folder, result


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run[0] / "out" / "report.json").read_text())


def values(report, prefix):
    return {
        name.removeprefix(prefix): metric["value"]
        for name, metric in report["metrics"].items()
        if name.startswith(prefix)
    }


@pytest.mark.slow
def test_every_source_is_measured_as_if_it_were_alone(run, report):
    folder, _ = run
    perplexities = values(report, "quality.perplexity.")
    assert {*perplexities} == {
        f"{source}.{model}"
        for source in ("speeches", "letters")
        for model in ("dense", "masked", "pruned")
    }
    pruned = numprune_export.load(folder / "out" / "model")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "out" / "model")
    alone = Corpus(texts=("letters.jsonl",), sequences=4, tokens_per_sequence=40, seed=1)
    windows = draw(alone, tokenizer, [folder], embeddings=pruned.config.vocab_size)
    with TorchRunner(pruned, threads=1) as runner:
        own = perplexity(runner, windows.tokens, batch=4).value
    assert perplexities["letters.pruned"] == pytest.approx(own, rel=1e-6)
    for name, ratio in values(report, "quality.perplexity_ratio.").items():
        source, model = name.split(".")
        if source in ("speeches", "letters"):
            dense = perplexities[f"{source}.dense"]
            assert ratio == pytest.approx(perplexities[f"{source}.{model}"] / dense)


def test_the_report_says_what_was_read_and_which_source_the_calibration_has(report):
    calibration, evaluation = report["texts"]["calibration"], report["texts"]["evaluation"]
    assert [(source["name"], source["sequences"]) for source in calibration] == [
        ("small", 7),
        ("other", 13),
    ]
    assert [source["documents"] for source in calibration] == [1, 100]
    assert [(source["name"], source["of_calibration"]) for source in evaluation] == [
        ("speeches", False),
        ("letters", True),
    ]


def test_each_source_has_a_row_in_the_closing_lines_the_pages_and_the_card(run, report):
    folder, result = run
    ratios = values(report, "quality.perplexity_ratio.")
    worst = report["metrics"]["quality.perplexity_ratio.worst.pruned"]["conditions"]["worst"]
    headline = f"{ratios['mean.pruned']:.3f}x of dense on pruned, geometric mean of 2 text sources"
    assert headline in report["summary"]
    assert report["summary"].endswith(f"at worst {ratios['worst.pruned']:.3f}x on {worst}.")
    texts = [result.out]
    texts += [
        (folder / "out" / name).read_text()
        for name in ("report.md", "report.html", "model/README.md")
    ]
    rows = {
        "speeches": "speeches",
        "letters": "letters (in calibration)",
        "mean": "geometric mean",
        "worst": f"worst ({worst})",
    }
    for text in texts:
        for source, title in rows.items():
            assert title in text
            assert f"{ratios[f'{source}.pruned']:.3f}x (" in text
    stored = read(folder / "out" / "report.json")
    assert texts[2] == page.render(stored)
    assert "Calibration and evaluation use the same text" not in texts[3]
    metadata = yaml.safe_load(texts[3].split("---")[1])
    named = [result["dataset"]["name"] for result in metadata["model-index"][0]["results"]]
    assert named == ["speeches", "letters"]


def test_the_gate_limits_the_mean_the_worst_and_a_source(run):
    folder, _ = run
    result = command("check", "out", cwd=folder)
    assert result.code == 9
    assert "1 beyond a limit, 2 as before" in result.out
    assert "the report fails the gate: `quality.perplexity_ratio.worst.pruned <= 1`" in result.err


def test_validate_measures_the_same_again(run, report):
    folder, _ = run
    result = command("validate", "out", "--out", "again.json", cwd=folder)
    assert result.code == 0, result.err
    again = json.loads((folder / "again.json").read_text())
    assert again["texts"] == report["texts"]
    assert values(again, "quality.") == pytest.approx(values(report, "quality."))
    assert "letters (in calibration)" in result.out
