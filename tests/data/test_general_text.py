"""The general text that comes with the package, and how its kinds are mixed."""

import json

import numpy as np
import pytest
from words import WORDS, word_tokenizer

from numprune_export.core.errors import InputError
from numprune_export.data import general_files, general_text
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.general_files import FOLDER, KINDS
from numprune_export.data.mix import SourceReader
from numprune_export.pipeline.kinds.text_sources import summaries
from numprune_export.recipe import builtin_dir


@pytest.fixture(scope="module")
def documents():
    return {
        kind: [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        for kind, path in zip(KINDS, general_files.files("general"), strict=True)
    }


def test_every_kind_has_a_file_with_documents_of_its_own_and_a_stated_licence(documents):
    assert {path.name for path in FOLDER.iterdir()} == {
        "LICENCES.md",
        "PYTHON-LICENSE.txt",
        *(f"{kind}.jsonl" for kind in KINDS),
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3e6
    licences = (FOLDER / "LICENCES.md").read_text(encoding="utf-8")
    for kind, texts in documents.items():
        assert f"`{kind}.jsonl`" in licences
        assert len(texts) >= 40
        assert all(len(text) > 100 for text in texts)
    everything = [text for texts in documents.values() for text in texts]
    assert len({*everything}) == len(everything)


def test_no_text_is_one_that_benchmarks_evaluate_on(documents):
    """Sixteen words in a row are more than a phrase that speeches share."""

    def runs(text):
        words = text.split()
        return {" ".join(words[at : at + 16]) for at in range(len(words) - 15)}

    held_out = runs((builtin_dir() / "data" / "sotu_2011_2021.txt").read_text(encoding="utf-8"))
    for texts in documents.values():
        for text in texts:
            assert held_out.isdisjoint(runs(text))


@pytest.fixture
def small_kinds(tmp_path, monkeypatch):
    """Each kind is one word; the third has 20 tokens and a half, all others 200."""
    for at, kind in enumerate(KINDS):
        row = {"text": " ".join([WORDS[3 + at]] * (25 if at == 2 else 200))}
        (tmp_path / f"{kind}.jsonl").write_text(json.dumps(row))
    monkeypatch.setattr(general_files, "FOLDER", tmp_path)


def kinds_of(windows):
    assert (windows.tokens == windows.tokens[:, :1]).all()
    return windows.tokens[:, 0] - 3


def test_kinds_have_equal_parts_and_a_short_one_gives_all_it_has(small_kinds):
    reader = SourceReader(word_tokenizer(), (), len(WORDS))
    (source,) = reader.shared(Corpus(sequences=58, tokens_per_sequence=10, field="body"))
    kinds = kinds_of(source.windows)
    assert np.bincount(kinds).tolist() == [8, 8, 2, 8, 8, 8, 8, 8]
    assert len({*kinds[:9].tolist()}) >= 6
    few = reader.shared(Corpus(sequences=3, tokens_per_sequence=10))[0].windows
    assert sorted(kinds_of(few)) == [0, 1, 2]
    with pytest.raises(InputError, match="too short for 200 windows of 10 tokens") as refusal:
        reader.shared(Corpus(sequences=200, tokens_per_sequence=10))
    assert "at most 142 windows" in refusal.value.hint


def test_own_text_gets_the_rest_and_a_kind_that_is_evaluated_is_marked(small_kinds, tmp_path):
    (tmp_path / "own.txt").write_text(" ".join([WORDS[-1]] * 200))
    reader = SourceReader(word_tokenizer(), [tmp_path], len(WORDS))
    length = {"tokens_per_sequence": 10}
    own, general = reader.shared(Corpus(texts=("own.txt",), general=0.75, sequences=12, **length))
    assert (own.name, len(own.windows.tokens), general.name) == ("own", 3, "general")
    assert np.bincount(kinds_of(general.windows)).tolist() == [2, 1, 1, 1, 1, 1, 1, 1]
    mix = [{"builtin": "general/news"}, {"texts": ["own.txt"], "name": "known"}]
    judged = reader.each(Corpus.model_validate({"mix": mix, "sequences": 4, **length}))
    assert judged[0].name == "general-news"
    assert set(kinds_of(judged[0].windows)) == {KINDS.index("news")}
    marks = summaries([general], judged, [tmp_path])["evaluation"]
    assert [source.of_calibration for source in marks] == [True, False]


def test_the_divided_windows_are_all_given():
    assert general_text.divided(0, [3, 4]) == (0, 0)
    assert general_text.divided(11, [1, 0, 9, 9]) == (1, 0, 5, 5)
    assert general_text.divided(12, [1, 9, 5, 9]) == (1, 4, 4, 3)
    assert general_text.divided(10, [3, 9, 9]) == (3, 4, 3)
    assert general_text.divided(24, [1, 9, 5, 9]) == (1, 9, 5, 9)
