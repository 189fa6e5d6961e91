"""Reloading in a process of its own; where it matters, in one that imports torch again."""

import json
import os
import subprocess
import sys

import pytest
import torch
from emptied import emptied_encoder
from safetensors.torch import load_file
from tiny import MODEL_TYPES, tiny, uneven
from tiny_encoder import FAMILIES as ENCODERS
from tiny_encoder import TASKS, uneven_encoder

from numprune_export.core.errors import ParityError
from numprune_export.models.checkpoint.reload_probe import logits_of
from numprune_export.models.checkpoint.reload_proof import proof_steps, prove_reload

WITHOUT_OUR_PACKAGE = """
import json, sys
sys.modules["numprune_export"] = None  # importing it fails
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(int(sys.argv[1]))
tokens, answers = torch.tensor(json.loads(sys.argv[2])), {}
for folder in sys.argv[4:]:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype="auto")
    with torch.inference_mode():
        answers[folder] = model(tokens).logits
save_file(answers, sys.argv[3])
"""


@pytest.mark.slow
def test_every_family_reloads_bit_equal_in_a_process_without_our_package(
    saved, tokens, logits, tmp_path
):
    models = {}
    for model_type in MODEL_TYPES:
        model = uneven(model_type, tie_word_embeddings=True)
        models[str(saved(model))] = logits(model)
        biased = tiny(model_type, seed=1)
        biased.model.layers[0].mlp.down_proj.bias = torch.nn.Parameter(torch.ones(64))
        models[str(saved(biased))] = logits(biased)
    threads, rows, answer = (
        torch.get_num_threads(),
        json.dumps(tokens.tolist()),
        tmp_path / "answer",
    )

    subprocess.run(
        [sys.executable, "-c", WITHOUT_OUR_PACKAGE, str(threads), rows, str(answer), *models],
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        check=True,
        capture_output=True,
    )

    got = load_file(answer)
    assert got.keys() == models.keys()
    for folder, expected in models.items():
        assert torch.equal(got[folder], expected)


AUTO = {
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}
ENCODERS_WITHOUT_OUR_PACKAGE = """
import json, sys
sys.modules["numprune_export"] = None  # importing it fails
import torch, transformers
from safetensors.torch import save_file

torch.set_num_threads(int(sys.argv[1]))
tokens, real = map(torch.tensor, json.loads(sys.argv[2]))
answers = {}
for argument in sys.argv[4:]:
    folder, kind = argument.split(":")
    model = getattr(transformers, kind).from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        answer = model(input_ids=tokens, attention_mask=real)
    answers[argument] = torch.cat([part.reshape(-1) for part in answer.to_tuple()])
save_file(answers, sys.argv[3])
"""


def padded(tokens):
    """Right-padded rows of 11, 4 and 7 tokens, the types of a pair, and what is real."""
    real = torch.arange(11) < torch.tensor([11, 4])[:, None]
    return tokens * real, {"real": real, "types": (torch.arange(11) > 2).long() * real}


@pytest.mark.slow
def test_every_encoder_reloads_bit_equal_in_a_process_without_our_package(saved, tokens, tmp_path):
    tokens, given = padded(tokens)
    models = {}
    for model_type in sorted(ENCODERS):
        for task in TASKS:
            model = emptied_encoder(model_type, task)
            with torch.inference_mode():
                answer = model(input_ids=tokens, attention_mask=given["real"].long()).to_tuple()
            models[f"{saved(model)}:{AUTO[task]}"] = torch.cat(
                [part.reshape(-1) for part in answer]
            )
    rows = json.dumps([tokens.tolist(), given["real"].long().tolist()])
    answer, threads = tmp_path / "answer", str(torch.get_num_threads())

    subprocess.run(
        [sys.executable, "-c", ENCODERS_WITHOUT_OUR_PACKAGE, threads, rows, str(answer), *models],
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        check=True,
        capture_output=True,
    )

    got = load_file(answer)
    assert got.keys() == models.keys()
    for name, expected in models.items():
        assert torch.equal(got[name], expected), name


def test_an_encoder_is_proven_on_a_padded_batch_wherever_its_weights_lie(saved, tokens):
    """One label makes the last product a matrix-vector one, which rounds by alignment."""
    tokens, given = padded(tokens)
    model = emptied_encoder("bert", num_labels=1)
    folder = saved(model)
    shifted = torch.empty(33)[1:].copy_(model.classifier.weight.detach()[0])
    model.classifier.weight.data = shifted[None]
    proof = prove_reload(folder, model, tokens, **given)
    assert proof.loaders == ("numprune_export.load", "AutoModelForSequenceClassification")
    assert (proof.tokens, proof.dtype) == (15, "float32")


def test_one_changed_bit_that_only_the_second_text_of_a_pair_sees_is_noticed(saved, tokens):
    tokens, given = padded(tokens)
    model = uneven_encoder("bert", "span")
    folder = saved(model)
    with torch.no_grad():
        model.bert.embeddings.token_type_embeddings.weight[1, 0] += 1e-3
    with pytest.raises(ParityError, match=r"`numprune_export\.load` disagrees.*shape \(2, 11, 2\)"):
        prove_reload(folder, model, tokens, **given)


@pytest.mark.parametrize(
    "change", [{"real": lambda real: real[:, :0].new_ones(2, 11)}, {"types": torch.zeros_like}]
)
def test_the_proof_looks_at_padding_and_token_types(change, saved, tokens):
    """Said otherwise to the two sides, they disagree: neither side ignores them."""
    tokens, given = padded(tokens)
    model = uneven_encoder("bert", "token")
    other = given | {name: make(given[name]) for name, make in change.items()}
    first, second = (
        logits_of(model, {"tokens": tokens} | arguments) for arguments in (given, other)
    )
    assert (first - second).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_proofs")
def test_a_good_checkpoint_is_proven(saved, tokens):
    model = uneven("qwen3", tie_word_embeddings=True)
    steps = []
    proof = prove_reload(saved(model), model, tokens, tick=steps.append)
    assert sum(steps) == len(steps) == proof_steps(model) == 5
    assert proof.loaders == ("numprune_export.load", "AutoModelForCausalLM")
    assert (proof.tokens, proof.dtype) == (22, "float32")


def test_one_changed_bit_of_one_weight_is_noticed(saved, tokens):
    model = uneven("llama")
    folder = saved(model)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] *= 1 + 2**-20
    with pytest.raises(ParityError, match=r"`numprune_export\.load` disagrees.*max abs error .*e-"):
        prove_reload(folder, model, tokens)


def test_a_checkpoint_that_does_not_load_is_no_proof(saved, tokens):
    model = uneven("llama")
    folder = saved(model)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ParityError, match=r"does not load.* contains no weights"):
        prove_reload(folder, model, tokens)
