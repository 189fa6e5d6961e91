"""What a model's own text starts with."""

import re

import numpy as np
import pytest
from words import WORDS, word_tokenizer

from numprune_export.calibration.prompts import OPEN, REQUESTS, Starts, prompts
from numprune_export.core.errors import InputError

CHAT = (
    "{% for m in messages %}we {{ m.role }} {{ m.content }} </s>{% endfor %}"
    "{% if add_generation_prompt %} will{% endif %}"
)


def starts(kind="auto", template=None, requests=REQUESTS, asked=0.0, *, vocabulary=100, tokens=32):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    return chosen(tokenizer, kind, requests, asked, vocabulary=vocabulary, tokens=tokens).tokens


def chosen(
    tokenizer, kind="auto", requests=REQUESTS, asked=0.0, *, vocabulary=100, tokens=32
) -> Starts:
    return prompts(tokenizer, kind, requests, asked, vocabulary=vocabulary, tokens=tokens)


def spelled(text):
    """`user` is no word of it: <s>."""
    return [OPEN if word == "?" else WORDS.index(word) for word in text.split()]


@pytest.mark.parametrize("kind", ["auto", "vocabulary"])
def test_without_a_template_every_word_that_means_something_is_a_start(kind):
    tokens = starts(kind)
    assert tokens.shape == (len(WORDS) - 3, 1)
    assert [WORDS[token] for token in tokens[:, 0]] == list(WORDS[3:])


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
    tokens = starts("chat", CHAT, asked=asked, tokens=200)
    assert len(tokens) == len(REQUESTS) + open_
    assert ((tokens == spelled("?")[0]).sum(1) > 10).sum() == open_
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


USELESS = [
    ("we </s>", "puts nothing before the user's message"),
    ("{{ messages[0].content }}", "puts nothing before the user's message"),
    ("   {{ messages[0].content }}", "puts nothing before the user's message"),
    ("we {{ messages[0].content | upper }}", "puts nothing before the user's message"),
    ("{{ raise_exception('only tools') }}", "template fails: only tools"),
    ("{% if %}", "template fails"),
    ("{{ messages[0].content + 1 }}", "template fails: can only concatenate str"),
    ("{{ messages[0].tool_calls | length }}", "puts nothing before the user's message"),
    ("{{ 1 // 0 }}", "template fails: integer"),
    ("{{ range(10 ** 9) }}", "template fails: Range too big"),
    ({"rag": "we", "tool_use": "we"}, "template fails: This model has multiple chat templates"),
]


@pytest.mark.parametrize(("template", "what"), USELESS)
def test_a_template_of_no_use_is_refused_where_it_is_asked_for(template, what):
    with pytest.raises(InputError, match=what) as refusal:
        starts("chat", template)
    assert "prompts: vocabulary" in refusal.value.hint


@pytest.mark.parametrize(("template", "what"), USELESS)
def test_a_template_of_no_use_gives_way_to_words_and_says_why(template, what):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    prompt_starts = chosen(tokenizer)
    assert prompt_starts.tokens.shape == (len(WORDS) - 3, 1)
    assert re.search(what, prompt_starts.refusal)


def test_a_template_that_is_used_is_not_refused():
    tokenizer = word_tokenizer()
    tokenizer.chat_template = {"default": CHAT, "tool_use": "we"}
    prompt_starts = chosen(tokenizer)
    assert (prompt_starts.tokens.tolist(), prompt_starts.refusal) == ([spelled("we <s>")], None)


def test_no_template_is_refused_where_it_is_asked_for():
    with pytest.raises(InputError, match="has no chat template"):
        starts("chat")


def test_a_template_with_a_token_that_the_model_has_no_embedding_for_is_of_no_use():
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["<|im_start|>"])
    tokenizer.chat_template = "<|im_start|> {{ messages[0].content }}"
    prompt_starts = chosen(tokenizer, vocabulary=len(WORDS))
    assert prompt_starts.tokens.shape == (len(WORDS) - 3, 1)
    assert f"token `<|im_start|>` with id {len(WORDS)}" in prompt_starts.refusal
    assert len(chosen(tokenizer, vocabulary=len(WORDS) + 1).tokens) == 1


def test_ids_are_what_models_take():
    assert starts().dtype == starts("chat", CHAT).dtype == np.int64
