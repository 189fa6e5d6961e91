"""Text that the model writes: what reads it, and what does not."""

import json
import shutil
from contextlib import nullcontext
from functools import cache

import pytest
import torch
from command import command
from safetensors.torch import load_file
from small import pruned_alone, small_recipe
from transformers import AutoTokenizer

from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.prompts import REQUESTS
from numprune_export.calibration.store import read_output_fisher, read_windows
from numprune_export.core.errors import DeviceError, InputError, RecipeError
from numprune_export.data.written_text import written_windows
from numprune_export.pipeline import additional_text, opening
from numprune_export.pipeline.kinds.causal_lm import DIVERGENCE_SEQUENCES, DIVERGENCE_STRIDE
from numprune_export.pruning.plan import Plan
from numprune_export.recipe import builtin_dir, load

ONE_SHOT = {"method": "closed_form", "affine": True, "order": "one_shot"}
SEQUENTIAL = {"method": "closed_form", "affine": True}
WITH_PRODUCERS = {"method": "closed_form", "producers": {}}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """The run folder of a small recipe, made once for the same settings; do not change it."""

    @cache
    def made(settings):
        place = tmp_path_factory.mktemp("pruned")
        pruned_alone(small_recipe(place, **json.loads(settings)), place / "run")
        return place / "run"

    def run(compensate, score="wanda", allocate=None, **own):
        chosen = {"score": score, "compensate": compensate, "generated_text": own}
        return made(json.dumps(chosen | ({} if allocate is None else {"allocate": allocate})))

    return run


def plan_of(run):
    return Plan.from_json(json.loads((run / "plan/plan.json").read_text()))


def consumer(run):
    return load_file(run / "model" / "model.safetensors")["model.layers.1.mlp.down_proj.weight"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "compensate",
    [ONE_SHOT, SEQUENTIAL, WITH_PRODUCERS],
    ids=["one-shot", "sequential", "with producers"],
)
def test_text_for_the_repair_changes_the_weights_and_not_the_choice(compensate, pruned):
    more, none = pruned(compensate, sequences=6), pruned(compensate)
    assert (more / "plan" / "plan.json").read_text() == (none / "plan" / "plan.json").read_text()
    scores = [load_file(run / "scores" / "scores.safetensors") for run in (more, none)]
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in scores[1])
    assert not torch.allclose(consumer(more), consumer(none), atol=1e-6)


def test_a_repair_at_once_reads_moments_of_both_texts(pruned):
    run = pruned(ONE_SHOT, sequences=6)
    both = load_file(run / "repair_statistics" / "block_001.safetensors")
    calibration = load(run.parent / "small.yaml").calibration
    texts = calibration.sequences + 6
    assert both["layers.1.mlp.tokens"] == texts * calibration.tokens_per_sequence
    assert "calibrate-repair: made" in (run / "log").read_text()


@pytest.mark.slow
def test_gradients_are_taken_on_a_share_of_the_text_and_moments_on_none(pruned):
    tried = {"method": "curves", "attention": [1, 2]}  # so that statistics are stored
    folders = [
        pruned(SEQUENTIAL, "fisher_obs", tried, sequences=6, for_gradients=share)
        for share in (0.0, 0.5)
    ]
    (site,) = [
        candidate for candidate in plan_of(folders[0]).sites if candidate.name == "layers.1.mlp"
    ]
    moments = [load_file(run / "statistics/block_001.safetensors") for run in folders]
    fisher = [read_output_fisher(run / "gradients", site) for run in folders]
    assert torch.equal(*(block_moments["layers.1.mlp.gram.packed"] for block_moments in moments))
    assert not torch.allclose(*fisher, rtol=1e-3)


@pytest.mark.slow
def test_plans_are_tried_out_on_it(pruned):
    budgets = {}
    texts = {
        "own": {"sequences": 6},
        "given": {"sequences": 6, "for_trials": False},
        "none": {"sequences": 0},
    }
    for name, own in texts.items():
        tried = {"method": "curves", "attention": [1, 2]}
        run = pruned(SEQUENTIAL, "fisher_obs", allocate=tried, **own)
        budgets[name] = json.loads((run / "plan" / "budget.json").read_text())
    settings = load(run.parent / "small.yaml").calibration
    name = "allocation.divergence.attention_1x"
    every = -(-settings.tokens_per_sequence // DIVERGENCE_STRIDE)
    assert budgets["given"] == budgets["none"]
    assert (
        budgets["given"][name]["samples"] == min(settings.sequences, DIVERGENCE_SEQUENCES) * every
    )
    assert budgets["own"][name]["samples"] == min(6, DIVERGENCE_SEQUENCES) * every
    assert budgets["given"][name]["value"] != pytest.approx(budgets["own"][name]["value"], rel=1e-3)


def test_a_model_with_a_chat_template_is_asked_for_the_kinds_of_text(tmp_path):
    chatty = shutil.copytree(builtin_dir() / "tiny-llama", tmp_path / "chatty")
    tokenizer = AutoTokenizer.from_pretrained(chatty)
    tokenizer.chat_template = (
        "Q {{ messages[0].content }}{% if add_generation_prompt %} A{% endif %}"
    )
    tokenizer.save_pretrained(chatty)
    own = {"sequences": 6, "requests": ["Peace?"], "asked": 0.5}
    recipe, run = small_recipe(tmp_path, model=str(chatty), generated_text=own), tmp_path / "run"
    pruned_alone(recipe, run)
    assert "a text starts with a chat prompt, 2 different prompts" in (run / "log").read_text()
    texts = [tokenizer.decode(row) for row in read_windows(run / "self_text").tokens]
    asked = [text.startswith("Q Peace? A") for text in texts]
    assert 0 < sum(asked) < 6
    assert all(text.startswith("Q") for text in texts)


def test_several_texts_fill_a_window(pruned):
    run = pruned(SEQUENTIAL, sequences=2, per_window=2, prompts="vocabulary")
    tokens = load(run.parent / "small.yaml").calibration.tokens_per_sequence
    assert statistics_store.read_windows(run / "self_text").tokens.shape == (2, tokens)


@pytest.mark.slow
def test_what_was_chosen_serves_any_amount_of_text(pruned, tmp_path):
    made = pruned(SEQUENTIAL, sequences=6)
    run = shutil.copytree(made, tmp_path / "run")
    before = (run / "log").read_text()
    changes = {"score": "wanda", "compensate": SEQUENTIAL, "generated_text": {"sequences": 3}}
    shutil.copy(made.parent / "small.txt", tmp_path)
    pruned_alone(small_recipe(tmp_path, **changes), run)
    log = (run / "log").read_text()[len(before) :]
    assert all(f" {name}: found" in log for name in ("score", "allocate"))
    assert all(f" {name}: made" in log for name in ("write-text", "prune"))
    method = json.loads((run / "model" / "config.json").read_text())["numprune"]["method"]
    assert method["generated_text"] == {
        "sequences": 3, "per_window": 1, "prompts": "auto", "temperature": 0.8, "min_p": 0.05,
        "for_gradients": 0.0, "for_trials": True, "requests": list(REQUESTS),
        "asked": 0.0, "texts": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "own",
    [
        -1,
        {"sequences": 4, "temperature": 0},
        {"for_gradients": 1.5},
        {"windows": 4},
        {"per_window": 0},
        {"requests": []},
        {"asked": 2},
        {"texts": "own.txt"},
    ],
)
def test_other_amounts_are_refused(own, tmp_path):
    with pytest.raises(RecipeError, match="generated_text"):
        load(small_recipe(tmp_path, generated_text=own))


def test_texts_written_elsewhere_are_taken_and_no_model_is_run(tmp_path):
    lines = [{"text": f"Fellow citizens, this is text number {n}."} for n in range(60)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = {"sequences": 3, "texts": "own.jsonl"}
    recipe = small_recipe(tmp_path, generated_text=own, compensate=SEQUENTIAL, targets={})
    done = command("inspect", recipe, "--plan")
    said = "3 more windows of texts from `own.jsonl`, no model is run for them"
    assert f"- {said}" in done.out
    assert "write-text" not in done.out
    done = command("run", recipe, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    log = (tmp_path / "run" / "log").read_text()
    assert log.index(f"generated text: {said}") < log.index("score: made")
    assert "write-text" not in log
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[5:]))
    assert command("run", recipe, "--out", tmp_path / "run").code == 0
    again = (tmp_path / "run" / "log").read_text()[len(log) :]
    assert "score: found" in again
    assert "prune: made" in again


def test_they_follow_one_another_up_to_full_windows():
    tokenizer = AutoTokenizer.from_pretrained(builtin_dir() / "tiny-llama")
    data = builtin_dir() / "data"

    def windows(name, *shape):
        return written_windows(name, (data,), tokenizer, shape=shape, embeddings=10**6)

    lines = (data / "sotu_2011_2021.txt").read_text(encoding="utf-8").split("\n")
    expected = []
    for line in filter(str.strip, lines[:200]):
        expected += tokenizer(line, add_special_tokens=False)["input_ids"]
        expected.append(tokenizer.eos_token_id)
    made = windows("sotu_2011_2021.txt", 7, 50)
    assert made.tokens.reshape(-1).tolist() == expected[:350]
    assert not made.padded
    with pytest.raises(InputError, match="too short for 10000 windows of 500") as refused:
        windows("sotu_2011_2021.txt", 10_000, 500)
    assert refused.value.hint.startswith("generate more text, or set `generated_text.sequences` to")


@pytest.mark.parametrize("texts", [None, "small.txt"])
def test_a_streamed_model_that_does_not_fit_is_given_texts(tmp_path, monkeypatch, texts):
    own = {"sequences": 2, "texts": texts}
    path = small_recipe(tmp_path, generated_text=own, stream_weights=True, targets={})
    monkeypatch.setattr(additional_text, "free_bytes", lambda device: 1e5)
    refused = pytest.raises(DeviceError, match="needs all weights in memory")
    with nullcontext() if texts else refused as error:
        opening.check(load(path), search=(tmp_path,))
    assert texts or "texts: FILE" in error.value.hint
