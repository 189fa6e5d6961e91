"""Whose error it was: a library's, on the user's input, or our own."""

import json
from pathlib import Path

import pytest

from numprune_export.core import foreign
from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.foreign import blamed_on_input, first_line


def guarded(work):
    with blamed_on_input("`x.json` cannot be read", hint="download it again"):
        work()


@pytest.mark.parametrize(
    "work", [lambda: json.loads("{"), lambda: json.loads("[" * 10**5), lambda: Path("\0").stat()]
)
def test_whatever_a_library_raises_is_blamed_on_the_input(work):
    with pytest.raises(InputError, match=r"^`x\.json` cannot be read: \w") as caught:
        guarded(work)
    assert caught.value.hint == "download it again"
    assert caught.value.__cause__ is not None


def test_a_bug_of_ours_is_no_input_error(monkeypatch):
    monkeypatch.setattr(foreign, "_OURS", (*foreign._OURS, __name__.partition(".")[0]))
    with pytest.raises(AttributeError):
        guarded(lambda: None.strip())  # type: ignore[attr-defined]
    with pytest.raises(TypeError), blamed_on_input("x", hint="y"):
        json.loads("{}", 1)  # a call that does not fit never reaches the library


def test_an_error_may_be_named_that_is_the_inputs_wherever_it_is_raised():
    with pytest.raises(InputError), blamed_on_input("x", hint="y", also=(ValueError,)):
        raise ValueError("of a C function")
    with pytest.raises(KeyError), blamed_on_input("x", hint="y", also=(ValueError,)):
        raise KeyError("of ours")


@pytest.mark.parametrize("error", [RecipeError("known", hint="so"), MemoryError(), SystemExit(3)])
def test_what_has_a_meaning_of_its_own_keeps_it(error):
    def work():
        raise error

    with pytest.raises(type(error)) as caught:
        guarded(work)
    assert caught.value is error


def test_a_foreign_message_without_words_is_named_by_its_class():
    assert first_line(AssertionError()) == "AssertionError"
    assert first_line(ValueError("wrong.\nmore")) == "wrong"
