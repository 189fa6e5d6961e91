"""What a model's own text starts with."""

import numpy as np
import pytest
from words import WORDS, word_tokenizer

from numprune_export.calibration.prompts import OPEN, REQUESTS, text_starts
from numprune_export.core.errors import InputError

CHAT = (
    "{% for m in messages %}we {{ m.role }} {{ m.content }} </s>{% endfor %}"
    "{% if add_generation_prompt %} will{% endif %}"
)


def starts(kind="auto", template=None, requests=REQUESTS, asked=0.0, *, vocabulary=100, tokens=32):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    return text_starts(tokenizer, kind, requests, asked, vocabulary=vocabulary, tokens=tokens)


def spelled(text):
    """`user` is no word of it: <s>."""
    return [OPEN if word == "?" else WORDS.index(word) for word in text.split()]


@pytest.mark.parametrize("kind", ["auto", "vocabulary"])
def test_without_a_template_every_word_that_means_something_is_a_start(kind):
    found = starts(kind)
    assert found.shape == (len(WORDS) - 3, 1)
    assert [WORDS[one] for one in found[:, 0]] == list(WORDS[3:])


def test_a_word_that_the_model_has_no_embedding_for_is_no_start():
    assert starts(vocabulary=7)[:, 0].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["auto", "chat"])
def test_a_chat_starts_as_its_template_does_before_a_users_words(kind):
    assert starts(kind, CHAT).tolist() == [spelled("we <s>")]


@pytest.mark.parametrize("kind", ["auto", "chat"])
def test_a_request_starts_with_all_that_comes_before_its_answer(kind):
    assert starts(kind, CHAT, ["the people", "work"], 0.67).tolist() == [
        spelled("we <s> the people </s> will"),
        spelled("we <s> work </s> will ?"),
        spelled("we <s> ? ? ? ?"),
    ]


@pytest.mark.parametrize(("asked", "open_"), [(1.0, 0), (0.5, 9), (0.75, 3), (0.1, 81)])
def test_so_many_chats_are_left_open_as_the_share_says(asked, open_):
    found = starts("chat", CHAT, asked=asked, tokens=200)
    assert len(found) == len(REQUESTS) + open_
    assert ((found == spelled("?")[0]).sum(1) > 10).sum() == open_
    assert len(set(REQUESTS)) == 9


def test_a_template_is_used_only_where_it_is_asked_for():
    assert starts("vocabulary", CHAT).shape == (len(WORDS) - 3, 1)


def test_a_template_that_fills_the_window_gives_way_to_words_unless_it_is_asked_for():
    long, the = "we " * 9 + "{{ messages[0].content }}", ["the"]
    assert starts("auto", long, the, 0.5, tokens=39).shape == (len(WORDS) - 3, 1)
    assert starts("auto", long, the, 0.5, tokens=40).shape == (2, 10)
    with pytest.raises(InputError, match="takes 10 of a text's 39 tokens"):
        starts("chat", long, the, 0.5, tokens=39)
    assert starts("chat", long, the, tokens=36).shape == (1, 9)
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
