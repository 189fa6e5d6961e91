"""Several text sources: how many windows of each, in which order, and what is read of a stream."""

import json

import numpy as np
import pytest
from words import WORDS, word_tokenizer

from numprune_export.core.errors import HubError, InputError
from numprune_export.data.corpus import Windows, draw, read
from numprune_export.data.corpus_settings import Corpus, Dataset
from numprune_export.data.hub_rows import streams_in_a_mix
from numprune_export.data.interleaving import interleaved
from numprune_export.data.mix import SourceReader


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


def prose(seed, words):
    return " ".join(np.random.default_rng(seed).choice(WORDS[3:], words))


def mixed(shares, **settings):
    sources = [{"texts": [f"{at}.txt"], "share": share} for at, share in enumerate(shares)]
    return Corpus.model_validate({"mix": sources, **settings})


@pytest.mark.parametrize("sequences", [7, 10, 64])
@pytest.mark.parametrize("shares", [(0.4, 0.6), (1, 1, 1), (3, 30, 7, 60), (0.1, 0.2, 0.7)])
def test_shares_are_exact_to_one_window_whatever_they_sum_to(shares, sequences):
    counts = mixed(shares, sequences=sequences).shared()
    assert sum(counts) == sequences
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - sequences * share / sum(shares)) < 1
    assert mixed([10 * share for share in shares], sequences=sequences).shared() == counts


def test_every_prefix_run_and_stride_holds_the_sources_in_proportion():
    counts = (26, 51, 51)
    parts = [
        Windows(np.arange(count)[:, None] + 1000 * at, np.ones(count, dtype=np.int64))
        for at, count in enumerate(counts)
    ]
    numbers = interleaved(parts).tokens[:, 0]
    for at, count in enumerate(counts):
        own = numbers // 1000 == at
        assert numbers[own].tolist() == parts[at].tokens[:, 0].tolist()
        expected = np.arange(1, len(own) + 1) * count / len(own)
        assert np.abs(np.cumsum(own) - expected).max() < 2
        for stride in (2, 3, 4, 5, 8):
            shares = [own[start::stride].mean() for start in range(stride)]
            assert np.allclose(shares, count / len(own), atol=0.25)
    assert interleaved(parts[:1]) is parts[0]


def test_each_source_gives_the_windows_that_it_gives_alone(tokenizer, tmp_path):
    for at in range(2):
        (tmp_path / f"{at}.txt").write_text(prose(at, 90))
    reader = SourceReader(tokenizer, [tmp_path], len(WORDS))
    corpus = mixed((1, 3), sequences=8, tokens_per_sequence=7, seed=5)
    shared, each = reader.shared(corpus), reader.each(corpus)
    assert [source.name for source in shared] == ["0", "1"]
    for sources, counts in ((shared, (2, 6)), (each, (8, 8))):
        for at, (source, count) in enumerate(zip(sources, counts, strict=True)):
            alone = Corpus(texts=(f"{at}.txt",), sequences=count, tokens_per_sequence=7, seed=5)
            expected = draw(alone, tokenizer, [tmp_path], embeddings=len(WORDS))
            assert np.array_equal(source.windows.tokens, expected.tokens)


def test_every_source_that_is_too_short_is_named(tokenizer, tmp_path):
    for at, words in enumerate((20, 90, 6)):
        (tmp_path / f"{at}.txt").write_text(prose(at, words))
    reader = SourceReader(tokenizer, [tmp_path], len(WORDS))
    with pytest.raises(InputError, match="source `0`: the text holds 20 tokens") as refusal:
        reader.shared(mixed((1, 1, 1), sequences=12, tokens_per_sequence=7))
    (other,) = refusal.value.further
    assert str(other).startswith("source `2`: the text holds 6 tokens, too short for 4 sequences")


@pytest.fixture
def data_set(tmp_path):
    """400 rows of 10 words, in 4 files."""
    pytest.importorskip("datasets", reason="the [datasets] extra is not installed")
    folder = tmp_path / "set"
    folder.mkdir()
    for at in range(4):
        rows = [json.dumps({"text": prose(100 * at + row, 10)}) for row in range(100)]
        (folder / f"train-{at}.jsonl").write_text("\n".join(rows))
    return folder


def streamed(folder, **settings):
    dataset = Dataset(id=str(folder), stream=True, shuffle_buffer=20)
    return Corpus(dataset=dataset, **{"sequences": 6, "tokens_per_sequence": 25, **settings})


@pytest.mark.parametrize(("windows", "rows"), [("packed", 15), ("documents", 6)])
def test_a_stream_is_read_no_further_than_its_windows_and_buffer_need(
    tokenizer, data_set, windows, rows
):
    def drawn(seed):
        corpus = streamed(data_set, windows=windows, seed=seed)
        return read(corpus, tokenizer, [], embeddings=len(WORDS))

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert first.documents == rows
    assert rows <= first.rows_read <= rows + 20 + 4
    assert np.array_equal(first.windows.tokens, again.windows.tokens)
    assert not np.array_equal(first.windows.tokens, other.windows.tokens)
    texts = {prose(number, 10) for number in range(400)}
    if windows == "documents":
        assert {tokenizer.decode(row[:10]) for row in first.windows.tokens} <= texts


def test_a_stream_that_ends_early_or_lacks_the_field_is_refused(tokenizer, data_set):
    with pytest.raises(InputError, match="holds 4000 tokens, too short for 200 sequences of 25"):
        read(streamed(data_set, sequences=200), tokenizer, [], embeddings=len(WORDS))
    with pytest.raises(InputError, match=r"row 1 in the stream of data set .* has no field `body`"):
        read(streamed(data_set, field="body"), tokenizer, [], embeddings=len(WORDS))


def test_a_stream_of_an_unreachable_hub_is_refused_even_if_the_data_set_is_cached(tokenizer):
    pytest.importorskip("datasets", reason="the [datasets] extra is not installed")
    with pytest.raises(HubError, match="`no-such-org/set`: the Hub is unreachable, streams need"):
        read(streamed("no-such-org/set"), tokenizer, [], embeddings=len(WORDS))


def test_in_a_mix_only_data_sets_of_the_hub_are_streamed_unasked(tokenizer, data_set):
    corpus = Corpus.model_validate(
        {"mix": [{"dataset": {"id": str(data_set)}}], "sequences": 6, "tokens_per_sequence": 25}
    )
    assert streams_in_a_mix(Dataset(id="organisation/name"))
    assert not streams_in_a_mix(Dataset(id="organisation/name", stream=False))
    (source,) = SourceReader(tokenizer, [], len(WORDS)).shared(corpus)
    assert (source.name, source.drawn.documents, source.drawn.rows_read) == ("set", 400, None)
