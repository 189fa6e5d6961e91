"""Pieces of text: whole characters, all of the text, nothing of a stop word."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from numprune_export.recipe import builtin_dir
from numprune_exporters.triton.served.text_stream import TextStream
from numprune_exporters.triton.served.text_tokenizer import TextTokenizer


@cache
def tokenizer():
    return TextTokenizer(builtin_dir() / "tiny-llama")


class Words:
    """A decoder that treats the first token in a way of its own, as SentencePiece ones do."""

    def decode(self, tokens):
        return "".join(f" w{token}" for token in tokens).removeprefix(" ")


def pieces(decoder, tokens, stop_words=()):
    stream = TextStream(decoder, stop_words)
    parts = []
    for token in tokens:
        parts.append(stream.push(token))
        if stream.stopped:
            return parts, True
    return [*parts, stream.finish()], stream.stopped


def cut(tokens, stop_words):
    """The text before the stop word that is first complete, by decoding every beginning anew."""
    for n in range(len(tokens) + 1):
        text = tokenizer().decode(tokens[:n])
        places = [text.find(word) for word in stop_words if word in text]
        if places:
            return text[: min(places)], True
    return text, False


@given(st.text())
def test_pieces_make_up_the_text_and_are_never_half_a_character(text):
    tokens = tokenizer().encode(text)
    parts, _ = pieces(tokenizer(), tokens)
    assert "".join(parts) == tokenizer().decode(tokens)
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert not any("\N{REPLACEMENT CHARACTER}" in part for part in parts)


@given(st.lists(st.integers(0, 1023)))
def test_any_tokens_at_all_make_up_what_they_decode_to(tokens):
    parts, _ = pieces(tokenizer(), tokens)
    assert "".join(parts) == tokenizer().decode(tokens)


def test_a_character_of_several_tokens_comes_when_it_is_whole():
    tokens = tokenizer().encode("🎉")
    assert len(tokens) == 4
    assert pieces(tokenizer(), tokens)[0] == ["", "", "", "🎉", ""]


def test_a_character_that_never_ends_is_told_at_the_end():
    tokens = tokenizer().encode("a🎉")[:3]
    assert pieces(tokenizer(), tokens)[0] == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]


@given(st.lists(st.integers(0, 50)))
def test_a_space_that_a_decoder_drops_at_the_start_is_kept_within(tokens):
    assert "".join(pieces(Words(), tokens)[0]) == Words().decode(tokens)


@given(st.text("ab ", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_before_the_first_stop_word(text, stop_words):
    tokens = tokenizer().encode(text)
    parts, stopped = pieces(tokenizer(), tokens, stop_words)
    assert ("".join(parts), stopped) == cut(tokens, stop_words)


def test_of_two_stop_words_in_one_token_the_first_counts():
    (token,) = tokenizer().encode(" people")
    for stop_words in (["le", "eo"], ["eo", "le"]):
        assert pieces(tokenizer(), [token], stop_words) == ([" p"], True)


@pytest.mark.parametrize(("text", "released"), [("the end", "the "), ("the en", "the en")])
def test_what_may_begin_a_stop_word_is_held_back_until_it_is_known(text, released):
    stream = TextStream(tokenizer(), ["end"])
    said = "".join(stream.push(token) for token in tokenizer().encode(text))
    assert not {"e", "n"} & set(said.removeprefix("the "))
    assert said + ("" if stream.stopped else stream.finish()) == released


def test_special_tokens_are_no_text_and_end_it():
    assert tokenizer().decode([0, *tokenizer().encode("we"), 0]) == "we"
    assert tokenizer().end_tokens == {0}


def test_a_tokenizer_file_that_cuts_and_fills_does_neither_to_prompts(tmp_path):
    own = Tokenizer.from_file(str(builtin_dir() / "tiny-llama" / "tokenizer.json"))
    own.enable_truncation(4)
    own.enable_padding(length=4)
    own.save(str(tmp_path / "tokenizer.json"))
    for text in ("we", "the people of the United States of America"):
        assert TextTokenizer(tmp_path).encode(text) == tokenizer().encode(text)
