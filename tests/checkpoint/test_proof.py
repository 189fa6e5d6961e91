"""Reloading in a fresh process. Each test here starts one, which imports torch again."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny import MODEL_TYPES, tiny, uneven

from numprune_export.checkpoint.proof import prove_reload
from numprune_export.errors import ParityError

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


def test_a_good_checkpoint_is_proven(saved, tokens):
    model = uneven("qwen3", tie_word_embeddings=True)
    proof = prove_reload(saved(model), model, tokens)
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
    with pytest.raises(ParityError, match=r"does not load.*model\.safetensors"):
        prove_reload(folder, model, tokens)
