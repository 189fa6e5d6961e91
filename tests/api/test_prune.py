"""`prune` on a live model: the same as a run, and nothing of the dense model is touched."""

import inspect

import pytest
import torch
from live import FAST, TEXTS, tiny_llama
from small import small_recipe

import numprune_export as ne
from numprune_export import api
from numprune_export.core.errors import InputError, OutputError, RecipeError
from numprune_export.core.progress import CallbackObserver


def logits(model, tokenizer):
    tokens = tokenizer("The state of the union", return_tensors="pt")
    with torch.no_grad():
        return model(**tokens).logits


def test_the_public_names_are_the_apis():
    names = {
        name
        for name, value in vars(api).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == api.__name__
    }
    assert names - {"export", "Progress"} == set(ne.__all__) - {
        "NumpruneError",
        "__version__",
        "errors",
    }
    for name in ne.__all__:
        assert getattr(ne, name) is not None
    for function in (api.prune, api.load, api.save, api.export, api.compare, api.run):
        parameters = inspect.signature(function).parameters
        assert len(parameters) <= 7
        assert all(each.annotation is not inspect.Parameter.empty for each in parameters.values())
        assert "Raises:" in function.__doc__


@pytest.mark.slow
def test_a_live_model_is_pruned_as_a_run_prunes_it(dense, tmp_path):
    settings = {
        "method": "fast", "keep": 0.7, "targets": {}, "generated_text": 0,
        "calibration": {"texts": [str(TEXTS)], "sequences": 16, "tokens_per_sequence": 64},
    }  # fmt: skip
    ne.run(small_recipe(tmp_path, **settings), tmp_path / "out")
    model, tokenizer = dense
    live = ne.prune(model, tokenizer, TEXTS, keep=0.7, method="fast", settings=FAST)
    saved = ne.load(tmp_path / "out" / "model")
    assert torch.equal(logits(live.model, tokenizer), logits(saved, tokenizer))
    assert live.keep == pytest.approx(0.7, abs=0.01)


def test_the_dense_model_stays_as_it_was_and_shares_no_tensor(pruned):
    fresh, tokenizer = tiny_llama()
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    fresh.train()
    live = ne.prune(fresh, tokenizer, TEXTS, keep=0.7, method="fast", settings=FAST)
    assert fresh.training
    assert live.model.training
    assert not hasattr(fresh.config, "numprune")
    with torch.no_grad():
        for parameter in live.model.parameters():
            parameter.add_(1.0)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_tied_weights_stay_tied(dense):
    model, tokenizer = dense
    tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    live = ne.prune(model, tokenizer, TEXTS, keep=0.8, method="fast", settings=FAST).model
    assert (live.lm_head.weight.data_ptr() == live.model.embed_tokens.weight.data_ptr()) is tied


def test_texts_may_be_strings_and_windows_follow_their_length(dense):
    model, tokenizer = dense
    text = TEXTS.read_text()[:40_000]
    live = ne.prune(model, tokenizer, [text[:20_000], text[20_000:]], keep=0.8, method="fast")
    assert 1 <= live.recipe.calibration.sequences < 64


def test_calibration_may_mix_sources(dense, tmp_path):
    model, tokenizer = dense
    text = TEXTS.read_text()
    for at in range(2):
        (tmp_path / f"{at}.txt").write_text(text[at * 20_000 :][:20_000])
    mix = [{"texts": [str(tmp_path / f"{at}.txt")], "share": at + 1} for at in range(2)]
    calibration = {"mix": mix, "sequences": 9, "tokens_per_sequence": 64}
    settings = {**FAST, "calibration": calibration}
    live = ne.prune(model, tokenizer, TEXTS, keep=0.8, method="fast", settings=settings)
    assert live.recipe.calibration.shared() == (3, 6)


def test_progress_is_told_by_stage_and_fraction(dense):
    model, tokenizer = dense
    told = []
    ne.prune(
        model, tokenizer, TEXTS, keep=0.8, method="fast", settings=FAST,
        progress=lambda stage, fraction: told.append((stage, fraction)),
    )  # fmt: skip
    stages = dict.fromkeys(stage for stage, _ in told)
    assert list(stages)[:3] == ["calibrate", "score", "allocate"]
    assert all(fraction is None or 0 <= fraction <= 1 for _, fraction in told)


def test_steps_belong_to_the_stage_at_work():
    told = []
    observer = CallbackObserver(lambda stage, fraction: told.append((stage, fraction)))
    observer.begin("a")
    observer.expect(4)
    observer.advance(1)
    observer.begin("b")
    observer.advance(1)
    observer.end("b", 0.0, resumed=False)
    observer.advance(1)
    assert told == [("a", 0.0), ("a", 0.25), ("b", 0.0), ("b", None), ("b", 1.0), ("a", 0.5)]


@pytest.mark.parametrize(
    ("texts", "settings", "error", "what"),
    [
        ([], {}, InputError, "no text"),
        (["a", {"b": 1}], {}, InputError, "mixes"),
        (["too short"], {}, InputError, "too short"),
        ("no/such/file.txt", {}, InputError, "does not exist"),
        (["word " * 9000], {"keep": 0}, RecipeError, "keep"),
        (["word " * 9000], {"scoer": "wanda"}, RecipeError, "unknown key `scoer`"),
    ],
)
def test_wrong_inputs_end_in_the_packages_errors(dense, texts, settings, error, what):
    model, tokenizer = dense
    with pytest.raises(error, match=what):
        ne.prune(model, tokenizer, texts, method="fast", settings=settings)


def test_a_folder_with_something_in_it_is_refused(pruned, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputError, match="not an empty folder"):
        pruned.save(tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
