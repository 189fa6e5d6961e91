"""A text as windows of the first model's tokens, and who reads it alike."""

import json
import shutil

import numpy as np
import pytest

from numprune_export.core.errors import InputError
from numprune_export.core.text_file import read_filled
from numprune_export.recipe import builtin_dir
from numprune_export.workflows.remeasure.candidate import candidate, tokenizer_of
from numprune_export.workflows.remeasure.quality import (
    WINDOW,
    WINDOWS,
    alike,
    tokens_of,
    windows_of,
)


@pytest.fixture
def llama(tmp_path):
    def make(name, change=lambda folder: None):
        shutil.copytree(builtin_dir() / "tiny-llama", tmp_path / name)
        change(tmp_path / name)
        return candidate(str(tmp_path / name))

    return make


def without_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def by_words(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Whitespace"}
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-bert"])
def test_the_tokens_are_those_of_the_text_and_no_others(model):
    """BERT's tokenizer would frame them."""
    checkpoint = candidate(str(builtin_dir() / model))
    tokenizer = tokenizer_of(checkpoint)
    assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize("A word.")) == tokens_of(
        "A word.", checkpoint
    )


def test_windows_are_full_in_order_and_no_more_than_a_limit(llama):
    model, text = llama("a"), "The state of the union. " * 4000
    ids = tokens_of(text, model)
    windows = windows_of(text, model)
    assert windows.shape == (WINDOWS, WINDOW)
    assert windows.dtype == np.int64
    assert windows.ravel().tolist() == ids[: WINDOWS * WINDOW]
    few = windows_of("The state of the union. " * 100, model)
    ids = tokens_of("The state of the union. " * 100, model)
    assert few.shape == (len(ids) // WINDOW, WINDOW)
    short = tokens_of("The state of the union.", model)
    assert windows_of("The state of the union.", model).tolist() == [short]


def test_too_little_text_and_no_tokenizer_are_refused(llama):
    with pytest.raises(InputError, match="tokens: too few to score"):
        windows_of("", llama("a"))
    with pytest.raises(InputError, match="has no tokenizer for the text"):
        windows_of("A text.", llama("b", without_tokenizer))


def test_who_reads_a_text_otherwise_is_named(llama):
    models = [llama("a"), llama("b", by_words), llama("c", without_tokenizer), llama("d")]
    same, notes = alike(models)
    assert same == [True, False, False, True]
    assert [note.partition(" ")[0].rpartition("/")[2] for note in notes] == ["b`", "c`"]
    assert "tokenizes text differently from" in notes[0]
    assert "has no tokenizer" in notes[1]


def test_a_text_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InputError, match="is not UTF-16 text"):
        read_filled(tmp_path / "bytes")
