"""Recovery in a run: the recovered model is the one that is saved and judged; what cannot be is refused."""

import json

import pytest
import torch
from small import BRIEF, small_recipe, small_run

import numprune_export
from numprune_export import recipe as recipes
from numprune_export.core.errors import InputError, RecipeError
from numprune_export.models.checkpoint.save import save
from numprune_export.pipeline import opening
from numprune_export.pipeline.stages import recover as stage

SETTINGS = {"tokens": 40 * 2 * 64, "check_every": 20, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recovered")


@pytest.fixture(scope="module")
def report(folder):
    return small_run(folder, keep=0.5, recover=SETTINGS, targets={}, **BRIEF)


def test_the_report_tells_the_repaired_from_the_recovered_model(report):
    value = {name: metric.value for name, metric in report.metrics.items()}
    before, after = (value[f"recovery.divergence.small.{moment}"] for moment in ("before", "after"))
    assert after < 0.9 * before
    assert value["quality.perplexity.pruned"] < value["quality.perplexity.repaired"]
    assert value["recovery.steps"] in (20, 40)
    assert "masked → " in report.summary
    order = [report.summary.index(f" {name}") for name in ("masked", "repaired", "pruned")]
    assert order == sorted(order)
    assert "recover" in report.stages


def test_the_saved_model_is_the_recovered_one_and_says_so(folder, report):
    out = folder / "out"
    saved, repaired = (numprune_export.load(out / name) for name in ("model", "repaired"))
    assert type(saved) is type(repaired)
    pairs = list(zip(saved.named_parameters(), repaired.parameters(), strict=True))
    assert all(first.shape == second.shape for (_, first), second in pairs)
    assert not torch.equal(saved.model.layers[0].mlp.down_proj.weight,
                           repaired.model.layers[0].mlp.down_proj.weight)  # fmt: skip
    assert torch.equal(saved.lm_head.weight, repaired.lm_head.weight)
    record = json.loads((out / "model" / "config.json").read_text())["numprune"]
    assert record["method"]["recover"]["tokens"] == SETTINGS["tokens"]
    assert [look["step"] for look in record["recovery"]] == [0, 20, 40]
    assert not [path for path in (out / "model").iterdir() if path.is_dir()]


def test_evaluation_settings_do_not_train_again(folder, report):
    small_run(folder, keep=0.5, recover=SETTINGS, targets={},
              **{**BRIEF, "parity": {"steps": 3}})  # fmt: skip
    last = (folder / "out" / "log").read_text().rsplit("device: cpu", 1)[1]
    assert "recover: found" in last


def test_held_out_windows_of_every_source_are_not_trained_on(tmp_path):
    mix = {"mix": [{"name": "own", "texts": ["small.txt"], "share": 3}, {"builtin": "general/news", "share": 1}],
           "sequences": 8, "tokens_per_sequence": 64}  # fmt: skip
    settings = {"tokens": 16 * 64, "held_out": 3}
    recipe = recipes.load(small_recipe(tmp_path, calibration=mix, recover=settings))
    texts = opening.open_inputs(recipe, (tmp_path,))[1].recovery
    trained = {tuple(row) for row in texts.trained.tokens}
    assert len(texts.trained.tokens) == len(trained) == 16
    assert set(texts.held_out) == {"own", "general-news"}
    for windows in texts.held_out.values():
        assert len(windows.tokens) == 3
        assert not trained & {tuple(row) for row in windows.tokens}


def test_stopped_while_it_is_saved_it_is_not_trained_again(tmp_path, monkeypatch):
    def half(*given, **named):
        save(*given, **named)
        raise KeyboardInterrupt

    brief = {"recover": {"tokens": 4 * 64, "check_every": 2}, "targets": {}, **BRIEF}
    monkeypatch.setattr(stage, "save", half)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path, **brief)
    (written,) = tmp_path.rglob("training.json")
    before = json.loads(written.read_text())["looks"]
    monkeypatch.setattr(stage, "save", save)
    small_run(tmp_path, **brief)
    record = json.loads((tmp_path / "out" / "model" / "config.json").read_text())["numprune"]
    assert record["recovery"] == before  # with the seconds that the first training took
    assert len(before) == 2


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"recover": 10**9}, InputError, "`recover`: the text holds"),
        ({"recover": {"tokens": 64, "held_out": 9}, "stream_weights": True}, RecipeError, "at once"),
    ],
)  # fmt: skip
def test_what_cannot_be_recovered_is_refused_before_any_work(changes, error, said, tmp_path):
    recipe = recipes.load(small_recipe(tmp_path, **changes))
    with pytest.raises(error, match=said):
        opening.check(recipe, search=(tmp_path,))


def test_an_encoder_is_refused_with_what_it_has_instead():
    named = recipes.named("smoke-bert", ["recover=64"])
    with pytest.raises(RecipeError, match="for language models only, not for `bert`"):
        opening.check(named.recipe, search=(named.folder,))
