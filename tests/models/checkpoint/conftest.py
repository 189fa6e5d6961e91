"""Fixtures of the checkpoint tests."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, dynamic_module_utils

from numprune_export.models.checkpoint.save import save
from numprune_export.models.families import FAMILIES


@pytest.fixture(autouse=True)
def _own_module_cache(tmp_path_factory, monkeypatch):
    """Code copied out of checkpoints stays out of the user's cache."""
    folder = tmp_path_factory.mktemp("modules")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder))
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def saved(tmp_path):
    """Save a model into a fresh folder and return it."""

    def write(model, tokenizer=None, *, record=None, **settings):
        folder = tmp_path / f"saved{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        family = FAMILIES[model.config.model_type]
        save(model, tokenizer, family, folder, record or {"method": "by hand"}, **settings)
        return folder

    return write


@pytest.fixture
def tokens():
    return torch.randint(3, 97, (2, 11), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def logits(tokens):
    """Logits of a model for the same tokens each time."""

    def run(model):
        with torch.inference_mode():
            return model(tokens).logits

    return run


@pytest.fixture
def tokenizer():
    """A word-level tokenizer of 97 words."""
    words = ["<pad>", "<s>", "</s>", *(f"w{index}" for index in range(94))]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
