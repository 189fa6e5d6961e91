"""Names that are no path, or that no file system takes, are those of nothing."""

import pytest

from numprune_export.core import paths
from numprune_export.core.errors import InputError, RecipeError
from numprune_export.models.checkpoint.source import resolve
from numprune_export.recipe import named

NO_PATHS = [
    "Four score and seven years ago our fathers brought forth. " * 8,
    "two\nlines of text",
    "x" * 300,
    "a/b/" + "x" * 300,
    "x/" * 3000,
    "~nobody-of-this-name/x",
    "nul\0byte",
    "half \ud83d pair",
]


@pytest.mark.parametrize("name", NO_PATHS)
def test_nothing_is_found_and_the_message_is_one_short_line(tmp_path, name):
    assert paths.find(name, [tmp_path]) is None
    with pytest.raises(InputError, match="does not exist") as refusal:
        paths.require(name, [tmp_path], what="text file")
    message = str(refusal.value)
    assert "\n" not in message
    assert len(message) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("name", NO_PATHS)
def test_a_model_or_recipe_of_such_a_name_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="there is no model"):
        resolve(name, revision=None, search=[tmp_path])
    with pytest.raises(RecipeError, match="no recipe"):
        named(name)


@pytest.mark.parametrize("name", NO_PATHS[:2])
def test_a_text_in_place_of_its_path_is_told_from_a_slip(tmp_path, name):
    with pytest.raises(InputError) as refusal:
        paths.require(name, [tmp_path], what="text file")
    assert refusal.value.hint.endswith("not the text itself")
    with pytest.raises(InputError) as refusal:
        paths.require("nowhere.txt", [tmp_path], what="text file")
    assert refusal.value.hint == "check the path"


def test_a_tilde_that_stands_for_no_user_is_part_of_a_name(tmp_path, monkeypatch):
    (tmp_path / "~backup.txt").write_text("x")
    assert paths.find("~backup.txt", [tmp_path]) == tmp_path / "~backup.txt"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.find("~/~backup.txt", []) == tmp_path / "~backup.txt"


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "stat", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        paths.exists(tmp_path / "a.txt")
