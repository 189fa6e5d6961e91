"""What a model's own text starts with."""

import numpy as np
import pytest
from words import WORDS, word_tokenizer

from numprune_export.errors import InputError
from numprune_export.text_starts import text_starts

CHAT = "{% for m in messages %}we {{ m.role }} {{ m.content }} </s>{% endfor %}"


def starts(kind="auto", template=None, *, vocabulary=100, tokens=32):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    return text_starts(tokenizer, kind, vocabulary=vocabulary, tokens=tokens)


@pytest.mark.parametrize("kind", ["auto", "vocabulary"])
def test_without_a_template_every_word_that_means_something_is_a_start(kind):
    found = starts(kind)
    assert found.shape == (len(WORDS) - 3, 1)
    assert [WORDS[one] for one in found[:, 0]] == list(WORDS[3:])


def test_a_word_that_the_model_has_no_embedding_for_is_no_start():
    assert starts(vocabulary=7)[:, 0].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["auto", "chat"])
def test_a_chat_starts_as_its_template_does_before_a_users_words(kind):
    assert starts(kind, CHAT).tolist() == [[WORDS.index("we"), 1]]  # `user` is no word of it: <s>


def test_a_template_is_used_only_where_it_is_asked_for():
    assert len(starts("vocabulary", CHAT)) > 1


def test_a_template_that_fills_the_window_gives_way_to_words_unless_it_is_asked_for():
    long = "we " * 9 + "{{ messages[0].content }}"
    assert len(starts("auto", long, tokens=32)) > 1
    assert starts("auto", long, tokens=36).shape == (1, 9)
    with pytest.raises(InputError, match="takes 9 of a text's 32 tokens"):
        starts("chat", long, tokens=32)


@pytest.mark.parametrize(
    ("kind", "template", "what"),
    [
        ("chat", None, "has no chat template"),
        ("chat", "we </s>", "puts nothing before a user's words"),
        ("auto", "{{ messages[0].content }}", "puts nothing before a user's words"),
        ("auto", "{{ raise_exception('only tools') }}", "template fails: only tools"),
        ("auto", "{% if %}", "template fails"),
    ],
)
def test_a_template_of_no_use_is_refused_with_a_way_out(kind, template, what):
    with pytest.raises(InputError, match=what) as refusal:
        starts(kind, template)
    assert "starts: vocabulary" in refusal.value.hint


def test_ids_are_what_models_take():
    assert starts().dtype == starts("chat", CHAT).dtype == np.int64
