"""The shipped classifier is really trained, and its passages are what they are said to be."""

import json

import torch
from hugging_face_runner import HuggingFaceRunner
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.choice import task_of
from numprune_export.recipe import builtin_dir


def test_it_tells_presidents_apart_by_speeches_it_never_saw():
    folder = builtin_dir() / "tiny-bert"
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    task = task_of("sequence", model.config)
    data = LabelledData(files=("data/presidents_dev.jsonl",))
    encoded = task.load(data, Reading.of(tokenizer, model.config, 128), [builtin_dir()])
    metrics = task.evaluate(HuggingFaceRunner(model), encoded).metrics()
    assert len(encoded) == 400
    assert metrics["accuracy"].low > 0.65
    assert metrics["f1"].value > 0.7
    assert metrics["loss"].value < 0.9


def test_no_passage_is_in_both_parts():
    folder = builtin_dir() / "data"
    files = ("presidents_train.jsonl", "presidents_dev.jsonl")
    lines = [(folder / name).read_text(encoding="utf-8").splitlines() for name in files]
    parts = [{json.loads(line)["text"] for line in part} for part in lines]
    assert [len(part) for part in parts] == [1024, 400]
    assert not parts[0] & parts[1]
    size = sum(path.stat().st_size for path in (builtin_dir() / "tiny-bert").iterdir())
    assert size < 1_000_000
