"""What a client may ask for, and what is said of the rest."""

import pytest

from numprune_export.core.errors import InputError
from numprune_exporters.triton.served.request import Request, parameters, read, single


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
        ("max_tokens", 10**400),
        ("max_tokens", -(10**400)),
        ("max_tokens", float("inf")),
        ("max_tokens", float("nan")),
        ("seed", 10**400),
        ("temperature", 10**400),
        ("top_p", 10**400),
        ("stop_words", ["a", {"b": 1}]),
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


@pytest.mark.parametrize("name", ["text_input", "stop_words"])
def test_half_a_surrogate_pair_is_no_text(name):
    with pytest.raises(InputError, match=f"`{name}` is not UTF-8"):
        ask(**{name: "\ud800"})


def test_what_is_said_of_a_wrong_value_is_short_and_can_be_sent():
    for values in ({"max_tokens": "\ud800" * 1000}, {"\ud800": 1}, {"seed": 10**5000}):
        with pytest.raises(InputError) as raised:
            ask(**values)
        assert 0 < len(str(raised.value).encode()) < 1000


@pytest.mark.parametrize(
    "text", ["[]", "3", '"a"', "null", "{", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}"]
)
def test_parameters_that_are_no_object_are_an_error(text):
    with pytest.raises(InputError, match="the parameters are not"):
        parameters(text)


def test_parameters_by_name_arrive():
    assert parameters("") == parameters("{}") == {}
    assert parameters('{"seed": 3, "stream": true}') == {"seed": 3, "stream": True}


def test_a_tensor_holds_one_value_or_stop_words():
    assert single("seed", (1, 1), [[3]]) == 3
    assert single("stop_words", (1, 2), [[b"a", b"b"]]) == [b"a", b"b"]
    assert single("stop_words", (1, 0), [[]]) == []
    for shape, values in (
        ((1, 0), [[]]),
        ((0, 1), []),
        ((2, 1), [[1], [2]]),
        ((1, 2), [[1, 2]]),
        ((), 1),
        ((1,), [1]),
    ):
        with pytest.raises(InputError, match="`seed` has"):
            single("seed", shape, values)
