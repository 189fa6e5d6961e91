"""What a client may ask for, and what is said of the rest."""

import pytest

from numprune_export.core.errors import InputError
from numprune_exporters.triton.served.request import Request, read


def ask(**values):
    return read({"text_input": b"we", **values}, max_tokens=7)


def test_a_prompt_alone_is_continued_greedily():
    assert ask() == Request("we", 7)
    assert ask().temperature == 0
    assert ask().seed is None


def test_every_value_arrives():
    values = {
        "max_tokens": 3,
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.25,
        "seed": 2**64 - 1,
        "stop_words": [b"a", "\N{SNOWMAN}".encode()],
        "stream": True,
        "exclude_input_in_output": False,
    }
    expected = {**values, "stop_words": ("a", "\N{SNOWMAN}")}
    assert ask(**values) == Request("we", **expected)


def test_asking_for_sampling_alone_is_not_greedy():
    assert ask(top_k=5).temperature == 1
    assert ask(top_p=0.5).temperature == 1
    assert ask(top_p=1.0).temperature == 0
    assert ask(top_p=0.5, temperature=0).temperature == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 2**31),
        ("max_tokens", 1.5),
        ("max_tokens", "3"),
        ("max_tokens", True),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("seed", -1),
        ("stop_words", [b""]),
        ("stop_words", [3]),
        ("stream", "yes"),
        ("stream", 1),
        ("exclude_input_in_output", None),
        ("text_input", 5),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(name, value):
    with pytest.raises(InputError, match=f"`{name}` cannot be"):
        ask(**{name: value})


def test_other_mistakes_are_named():
    with pytest.raises(InputError, match="unknown parameter `tmperature`"):
        ask(tmperature=1)
    with pytest.raises(InputError, match="`text_input` is missing"):
        read({"max_tokens": 3}, max_tokens=7)
    with pytest.raises(InputError, match="`text_input` is not UTF-8"):
        ask(text_input=b"\xff")
