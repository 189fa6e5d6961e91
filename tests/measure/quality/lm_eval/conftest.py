"""The shipped tiny model, exported once, and lm-eval's data cache out of the user's way."""

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from numprune_export.measure.quality.lm_eval.settings import Tasks
from numprune_export.models.families import FAMILIES
from numprune_export.recipe import builtin_dir
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

TASKS = builtin_dir() / "tasks"
LENGTH = 128


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def model():
    loaded = AutoModelForCausalLM.from_pretrained(builtin_dir() / "tiny-llama", dtype=torch.float32)
    return loaded.eval()


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(builtin_dir() / "tiny-llama")


@pytest.fixture(scope="session")
def artifact(model, tmp_path_factory):
    decoder = FAMILIES["llama"].decoder(model)
    return OnnxExporter().export(decoder, tmp_path_factory.mktemp("onnx"), OnnxSettings())


@pytest.fixture
def settings():
    """Few examples of both shipped tasks."""

    def make(**changes):
        content = {
            "lm_eval": ("sotu_endings", "sotu_paragraphs"),
            "include": str(TASKS),
            "limit": 8,
            "max_length": LENGTH,
        }
        return Tasks.model_validate(content | changes)

    return make


@pytest.fixture
def own_task(tmp_path):
    """Write a task file and its data; the folder."""

    def write(name, text, rows=None):
        folder = tmp_path / "tasks"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
        if rows is not None:
            (folder / f"{name}.jsonl").write_text(rows)
        return folder

    return write
