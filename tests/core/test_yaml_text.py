"""Values that look like something else, and values that nothing can be made of."""

import pytest

from numprune_export import recipe as recipes
from numprune_export.core.errors import RecipeError
from numprune_export.core.yaml_text import YamlError, parse
from numprune_export.export.servers import assignments

UNBUILDABLE = [
    "!!int x",
    '!!int ""',
    "!!float x",
    "!!bool x",
    "!!timestamp x",
    "!!timestamp 2026-02-30",
    "!!binary 'a'",
    "9" * 5000,
    "[" * 900,
    '"\\ud800"',
    "!!python/object/apply:os.system ['true']",
    "*missing",
    "{? [a] : 1}",
    "=",
]


@pytest.mark.parametrize("text", UNBUILDABLE)
def test_every_refusal_is_one_error_of_one_line(text):
    with pytest.raises(YamlError) as refusal:
        parse(text)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("text", UNBUILDABLE)
def test_recipes_and_servers_refuse_it_alike(tmp_path, text):
    (tmp_path / "r.yaml").write_text(f"version: 1\nmodel: x\nkeep: {text}\n")
    with pytest.raises(RecipeError, match="is not YAML"):
        recipes.load(tmp_path / "r.yaml")
    for read in (lambda change: recipes.named("smoke", [change]), lambda c: assignments([c])):
        with pytest.raises(RecipeError, match="is not YAML"):
            read(f"keep={text}")


def test_the_value_is_named():
    with pytest.raises(YamlError, match="line 2: `x1` is not a value of type `int`"):
        parse("a: 1\nb: !!int x1")
    with pytest.raises(YamlError, match=r"`9{40}…` is not a value of type `int`"):
        parse("9" * 5000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{yes: 1, no: 0, on: off}", {"yes": 1, "no": 0, "on": "off"}),
        ("[true, False, TRUE]", [True, False, True]),
        ("[truely, nothing]", ["truely", "nothing"]),
        ("2024-05-01", "2024-05-01"),
        ("2026-02-30", "2026-02-30"),
        ("[1, 0.5, null, ~]", [1, 0.5, None, None]),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_words_and_dates_stay_what_the_user_wrote(text, value):
    assert parse(text) == value


def test_a_revision_that_looks_like_a_date_is_one(tmp_path):
    recipe = recipes.named("smoke", ["model.revision=2024-05-01"]).recipe
    assert recipe.model.revision == "2024-05-01"


def test_a_damaged_recipe_file_is_named(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xff\xfea")
    with pytest.raises(RecipeError, match="not UTF-16 text"):
        recipes.load(path)
    with pytest.raises(RecipeError, match="is a folder"):
        recipes.load(tmp_path)
    path.write_text("\ufeffversion: 2\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"`version`: must be one of 1 \(got `2`\)"):
        recipes.load(path)
