"""Text to windows: what is drawn, what is padded, what is refused."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers.processors import TemplateProcessing
from words import WORDS, word_tokenizer

from numprune_export.core.errors import HubError, InputError
from numprune_export.data import corpus as corpora
from numprune_export.data import hub_rows
from numprune_export.data.corpus import Windows
from numprune_export.data.corpus_settings import Corpus, Dataset


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


def draw(corpus, tokenizer, search, embeddings=1000):
    return corpora.draw(corpus, tokenizer, search, embeddings=embeddings)


def write(folder, name, text):
    (folder / name).write_text(text)
    return name


def test_packed_windows_are_full_disjoint_pieces_of_the_text(tokenizer, tmp_path):
    words = np.random.default_rng(0).choice(WORDS[3:], 90).tolist()
    name = write(tmp_path, "a.txt", " ".join(words))
    corpus = Corpus(texts=(name,), sequences=6, tokens_per_sequence=7)
    windows = draw(corpus, tokenizer, [tmp_path])

    ids = tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]
    pieces = {tuple(ids[i : i + 7]): i for i in range(0, len(ids) - 6, 7)}
    starts = [pieces[tuple(row)] for row in windows.tokens.tolist()]
    assert windows.tokens.shape == (6, 7)
    assert windows.tokens.dtype == np.int64
    assert len(set(starts)) == 6
    assert not windows.padded


def test_no_special_tokens_are_added(tmp_path):
    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", None, [("<s>", 1)])
    name = write(tmp_path, "a.txt", "the people of state")
    assert tokenizer("the")["input_ids"][0] == 1
    windows = draw(Corpus(texts=(name,), sequences=1, tokens_per_sequence=4), tokenizer, [tmp_path])
    assert tokenizer.decode(windows.tokens[0]) == "the people of state"


def test_several_files_are_joined(tokenizer, tmp_path):
    names = (write(tmp_path, "a.txt", "the people of"), write(tmp_path, "b.txt", "state union and"))
    windows = draw(Corpus(texts=names, sequences=1, tokens_per_sequence=6), tokenizer, [tmp_path])
    assert tokenizer.decode(windows.tokens[0]) == "the people of state union and"


def test_the_seed_chooses_the_windows(tokenizer, tmp_path):
    name = write(tmp_path, "a.txt", "the people of state union and work we will " * 40)
    drawn = [
        draw(
            Corpus(texts=(name,), sequences=4, tokens_per_sequence=5, seed=s), tokenizer, [tmp_path]
        )
        for s in (0, 0, 1)
    ]
    assert np.array_equal(drawn[0].tokens, drawn[1].tokens)
    assert not np.array_equal(drawn[0].tokens, drawn[2].tokens)


def test_documents_are_windows_of_their_own_with_true_lengths(tokenizer, tmp_path):
    texts = ["the people of state", "union and", "we", "work we will the people of state union"]
    rows = "\n".join(json.dumps({"body": text}) for text in texts)
    name = write(tmp_path, "a.jsonl", rows + "\n\n")
    corpus = Corpus(
        texts=(name,), field="body", windows="documents", sequences=3, tokens_per_sequence=5
    )
    windows = draw(corpus, tokenizer, [tmp_path])
    # "we" alone is one token: nothing follows it, so it is left out
    assert windows.lengths.tolist() == [4, 2, 5]
    assert windows.padded
    decoded = [
        tokenizer.decode(row[:n]) for row, n in zip(windows.tokens, windows.lengths, strict=True)
    ]
    assert decoded == ["the people of state", "union and", "work we will the people"]


def test_rows_keep_every_real_token_and_no_column_that_is_only_padding():
    lengths = np.array([2, 5, 3, 5, 1])
    tokens = np.arange(1, 31).reshape(5, 6) * (np.arange(6) < lengths[:, None])
    windows = Windows(tokens, lengths, tokens % 2)
    some = windows.rows(np.array([4, 2]))
    assert some.lengths.tolist() == [1, 3]
    assert some.tokens.tolist() == [[25, 0, 0], [13, 14, 15]]
    assert some.types is not None
    assert some.types.tolist() == [[1, 0, 0], [1, 0, 1]]
    assert windows.rows(np.array([], dtype=int)).tokens.shape == (0, 0)
    assert windows.first(3).lengths.tolist() == [2, 5, 3]
    assert (
        windows.first(9).lengths.tolist() == windows.first(None).lengths.tolist() == [2, 5, 3, 5, 1]
    )


def test_batches_by_length_hold_every_row_once_and_equal_lengths_in_order():
    lengths = np.array([2, 5, 3, 5, 1])
    windows = Windows(np.ones((5, 6), dtype=np.int64), lengths)
    assert [rows.tolist() for rows in windows.by_length(2)] == [[1, 3], [2, 0], [4]]
    full = Windows(np.ones((3, 6), dtype=np.int64), np.full(3, 6))
    assert np.concatenate(full.by_length(2)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the people of", "too short"),
        ("", "holds no text"),
        (b"\xe9t\xe9", "UTF-8"),
    ],
)
def test_unusable_text_is_named(tokenizer, tmp_path, content, message):
    path = tmp_path / "a.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        draw(Corpus(texts=("a.txt",), sequences=8, tokens_per_sequence=8), tokenizer, [tmp_path])


def test_text_too_short_says_how_much_there_is_and_what_would_fit(tokenizer, tmp_path):
    name = write(tmp_path, "a.txt", "the people of state union " * 4)
    with pytest.raises(InputError, match="20 tokens") as caught:
        draw(Corpus(texts=(name,), sequences=8, tokens_per_sequence=8), tokenizer, [tmp_path])
    assert "at most 2" in caught.value.hint


@pytest.mark.parametrize("line", ["not json", '"text"', '{"other": "x"}', '{"text": 3}'])
def test_a_bad_jsonl_line_is_named_by_number(tokenizer, tmp_path, line):
    name = write(tmp_path, "a.jsonl", json.dumps({"text": "the people"}) + "\n" + line)
    with pytest.raises(InputError, match="line 2"):
        draw(Corpus(texts=(name,), sequences=1, tokens_per_sequence=2), tokenizer, [tmp_path])


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85"])
def test_a_json_line_ends_where_the_file_says_and_not_within_its_text(tokenizer, tmp_path, inside):
    rows = [{"text": f"the people{inside}of state"}, {"text": "union and"}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl").write_text(lines + "\n", encoding="utf-8")
    corpus = Corpus(texts=("a.jsonl",), windows="documents", sequences=2, tokens_per_sequence=8)
    windows = draw(corpus, tokenizer, [tmp_path])
    assert windows.lengths.tolist() == [4, 2]
    assert tokenizer.decode(windows.tokens[0, :4]) == "the people of state"


def test_a_relative_path_is_looked_up_beside_the_recipe_first(tokenizer, tmp_path):
    beside, working = tmp_path / "recipe", tmp_path / "cwd"
    for folder, text in ((beside, "the people"), (working, "state union")):
        folder.mkdir()
        write(folder, "a.txt", text)
    write(working, "b.txt", "state union")
    corpus = Corpus(texts=("a.txt",), sequences=1, tokens_per_sequence=2)
    assert tokenizer.decode(draw(corpus, tokenizer, [beside, working]).tokens[0]) == "the people"
    corpus = Corpus(texts=("b.txt",), sequences=1, tokens_per_sequence=2)
    assert tokenizer.decode(draw(corpus, tokenizer, [beside, working]).tokens[0]) == "state union"


def test_a_relative_path_cannot_climb_out(tokenizer, tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path, "secret.txt", "the people " * 99)
    corpus = Corpus(texts=("../secret.txt",), sequences=1, tokens_per_sequence=2)
    with pytest.raises(InputError, match="climbs out"):
        draw(corpus, tokenizer, [tmp_path / "in"])
    absolute = Corpus(texts=(str(tmp_path / "secret.txt"),), sequences=1, tokens_per_sequence=2)
    assert draw(absolute, tokenizer, [tmp_path / "in"]).tokens.shape == (1, 2)


def test_a_missing_file_names_where_it_was_looked_for(tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt"):
        draw(Corpus(texts=("nowhere.txt",)), tokenizer, [tmp_path])


def test_one_source_at_most_is_asked_for():
    with pytest.raises(ValidationError, match="either"):
        Corpus(texts=("a",), dataset=Dataset(id="x/y"))


def test_a_local_folder_works_as_a_data_set(tokenizer, tmp_path):
    pytest.importorskip("datasets", reason="the [datasets] extra is not installed")
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"text": "the people of state union and work"}, {"text": "we will work and work"}]
    write(folder, "train.jsonl", "\n".join(json.dumps(row) for row in rows))
    corpus = Corpus(dataset=Dataset(id=str(folder)), sequences=2, tokens_per_sequence=5)
    windows = draw(corpus, tokenizer, [tmp_path])
    assert tokenizer.decode(windows.tokens[0]) == "the people of state union"
    missing = Corpus(dataset=Dataset(id=str(folder)), field="body")
    with pytest.raises(InputError, match="no column `body`"):
        draw(missing, tokenizer, [tmp_path])


def test_an_unreachable_data_set_is_a_hub_error(tokenizer, tmp_path):
    pytest.importorskip("datasets", reason="the [datasets] extra is not installed")
    with pytest.raises(HubError, match="no-such-org/no-such-set"):
        draw(Corpus(dataset=Dataset(id="no-such-org/no-such-set")), tokenizer, [tmp_path])


def test_positions_are_cut_out_of_every_window():
    tokens = np.arange(12).reshape(2, 6)
    windows = Windows(tokens, np.array([6, 3]), tokens % 2).positions(2, 5)
    assert windows.tokens.tolist() == [[2, 3, 4], [8, 9, 10]]
    assert windows.lengths.tolist() == [3, 1]
    assert windows.types.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert Windows(tokens, np.array([6, 3])).positions(4, 6).lengths.tolist() == [2, 0]


@pytest.mark.parametrize("windows", ["packed", "documents"])
def test_a_token_without_an_embedding_is_named_with_its_text(tmp_path, windows):
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["city"])
    rows = [{"text": "the people of state"}, {"text": "the city"}, {"text": "city"}]
    name = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    corpus = Corpus(texts=(name,), windows=windows, sequences=1, tokens_per_sequence=2)
    embeddings = len(WORDS)
    with pytest.raises(InputError) as refusal:
        draw(corpus, tokenizer, [tmp_path], embeddings)
    message = str(refusal.value)
    assert message.startswith("line 2 of")
    assert f"token `city` with id {embeddings}" in message
    assert f"only {embeddings} embeddings and its tokenizer {embeddings + 1} tokens" in message
    assert "resize_token_embeddings" in refusal.value.hint
    assert draw(corpus, tokenizer, [tmp_path], embeddings + 1).tokens.max() <= embeddings


def test_a_text_per_row_is_read_from_every_format_and_never_as_prose(tokenizer, tmp_path):
    texts = ["the people of state", "union and work"]
    contents = {
        "a.jsonl": "\n".join(json.dumps({"text": text}) for text in texts),
        "a.json": json.dumps([{"text": text} for text in texts]),
        "a.csv": "text,label\n" + "".join(f"{text},1\n" for text in texts),
        "a.tsv": "label\ttext\n" + "".join(f"1\t{text}\n" for text in texts),
        "a.CSV": "text\n" + "\n".join(texts),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(f"\ufeff{content}", encoding="utf-8")
        corpus = Corpus(texts=(name,), windows="documents", sequences=2, tokens_per_sequence=8)
        windows = draw(corpus, tokenizer, [tmp_path])
        read = [
            tokenizer.decode(row[:length])
            for row, length in zip(windows.tokens, windows.lengths, strict=True)
        ]
        assert read == texts, name


def test_a_byte_order_mark_is_no_token(tokenizer, tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "a.txt").write_bytes("the people".encode(encoding))
        corpus = Corpus(texts=("a.txt",), sequences=1, tokens_per_sequence=2)
        drawn = draw(corpus, tokenizer, [tmp_path])
        assert tokenizer.decode(drawn.tokens[0]) == "the people", encoding


def test_a_data_set_of_an_unreachable_hub_is_looked_for_in_the_cache_alone(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the [datasets] extra is not installed")
    offline = []

    def load_dataset(*_, **__):
        offline.append(datasets.config.HF_HUB_OFFLINE)
        raise ConnectionError("no cache")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        HubError, match="`no-such-org/no-such-set`: the Hub is unreachable and the data"
    ):
        hub_rows.fetch(Dataset(id="no-such-org/no-such-set"))
    assert offline == [True]
    assert datasets.config.HF_HUB_OFFLINE is False
