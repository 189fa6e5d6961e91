"""Written data, and how the tiny models read it."""

import json

import pytest
from subword_tokenizer import subword_tokenizer

from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.choice import task_of


@pytest.fixture
def jsonl(tmp_path):
    """Rows to a file; its settings."""

    def write(rows, name="rows.jsonl", **settings):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return LabelledData(files=(name,), **{"batch": 1, "max_length": 32, **settings})

    return write


@pytest.fixture
def load(tmp_path):
    """Examples for a model, by its task."""

    def loaded(model, data, kind, *, labelled=True, tokenizer=None):
        reading = Reading.of(tokenizer or subword_tokenizer(), model.config, 64)
        task = task_of(kind, model.config)
        return task, task.load(data, reading, [tmp_path], labelled=labelled)

    return loaded
