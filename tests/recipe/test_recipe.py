"""The recipe: strict, versioned, readable mistakes."""

import json

import pytest
import yaml

from numprune_export import recipe as recipes
from numprune_export.core.errors import RecipeError
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.tasks import glue
from numprune_export.recipe.files import missing_data

MINIMAL = {
    "version": 1,
    "model": "some/model",
    "calibration": {"texts": ["a.txt"]},
    "evaluation": {"texts": ["b.txt"]},
}


def write(folder, **changes):
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes))
    return path


@pytest.mark.parametrize("name", recipes.builtin_names())
def test_every_shipped_recipe_loads_and_says_when_to_use_it(name):
    path = recipes.locate(name)
    recipe = recipes.load(path)
    assert 0 < recipe.keep <= 1
    assert path.read_text().startswith("# ")
    for texts in (recipe.calibration, recipe.evaluation):
        names = texts.texts if isinstance(texts, Corpus) else texts.files
        # What a script makes from packages is not shipped; the recipe says how to make it.
        made = [name for name in names or () if name.startswith("models/")]
        assert not made or "python benchmarks/make_" in path.read_text()
        rest = set(names or ()) - set(made)
        assert texts.dataset or all((path.parent / name).is_file() for name in rest)


def test_the_expected_recipes_are_shipped():
    expected = {
        "smoke",
        "smollm2-keep80",
        "llama-2-7b",
        "llama-3-8b",
        "llama-3-70b",
        "mistral-7b",
        "qwen2.5-0.5b",
    }
    assert expected <= set(recipes.builtin_names())


def test_the_shipped_schema_is_the_code():
    """Regenerate with `numprune-export schema > recipes/schema.json`."""
    assert (recipes.builtin_dir() / "schema.json").read_text(
        encoding="utf-8"
    ) == recipes.schema_json()


def test_the_resolved_recipe_reads_back_as_itself(tmp_path):
    recipe = recipes.load(write(tmp_path, score="wanda"))
    (tmp_path / "again.yaml").write_text(recipes.dump(recipe))
    assert recipes.load(tmp_path / "again.yaml") == recipe


def test_a_lone_string_stands_for_a_section(tmp_path):
    recipe = recipes.load(write(tmp_path, score="wanda", compensate="bias", allocate="uniform"))
    assert recipe.model.source == "some/model"
    assert (recipe.score.method, recipe.compensate.method) == ("wanda", "bias")
    assert recipe.allocate.method == "uniform"


def test_without_a_text_of_its_own_a_recipe_calibrates_on_the_general_text(tmp_path):
    def shares(**calibration):
        recipe = recipes.load(write(tmp_path, calibration=calibration))
        return [(source.title, source.share) for source in recipe.calibration.sources]

    assert shares(sequences=8) == [("general", None)]
    assert shares(texts=["a.txt"]) == [("a", None)]
    assert shares(texts=["a.txt"], general=0.25) == [("a", 0.75), ("general", 0.25)]
    mixed = [{"texts": ["a.txt"], "share": 3}, {"texts": ["b.txt"], "share": 1}]
    assert shares(mix=mixed, general=0.5) == [("a", 0.375), ("b", 0.125), ("general", 0.5)]
    path = tmp_path / "none.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != "calibration"}))
    assert [source.title for source in recipes.load(path).calibration.sources] == ["general"]


def mix(*sources):
    return {"calibration": {"mix": [*sources]}}


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"kep": 0.5}, "unknown key `kep`", "did you mean `keep`"),
        (
            {"score": {"method": "numerical", "penality": 1}},
            "unknown key `score.penality`",
            "`penalty`",
        ),
        (
            {"allocate": {"method": "uniform", "cost": "macs"}},
            "unknown key `allocate.cost`",
            "setting of `allocate` with `method: curves or search`",
        ),
        (
            {"score": {"token_stride": 2}},
            "`score` has no `method`",
            "for example `--set score.method=numerical`; other methods: wanda, ",
        ),
        ({"keep": 0}, "`keep`: must be greater than 0 (got `0`)", "schema"),
        ({"keep": 1.5}, "`keep`: must be at most 1 (got `1.5`)", "schema"),
        ({"keep": -0.1}, "`keep`", "schema"),
        ({"keep": float("nan")}, "`keep`", "schema"),
        ({"keep": "most"}, "`keep`", "schema"),
        ({"version": 2}, "`version`", "schema"),
        ({"score": "newton"}, "`score`: unknown method", "schema"),
        (
            {"compensate": {"method": "closed_form", "damping": -1}},
            "`compensate.damping`",
            "schema",
        ),
        ({"evaluation": {}}, "`evaluation` names no text", "give `evaluation.texts`"),
        (
            {"evaluation": {"texts": ["a"], "general": 0.5}},
            "`evaluation.general`",
            "`mix: [{builtin: general}]`",
        ),
        ({"calibration": {"general": 0.5}}, "no text is named", "schema"),
        ({"calibration": {"texts": ["a"], "general": 1}}, "must be less than 1", "schema"),
        (mix({"builtin": "general/poems"}), "`general/code`", "schema"),
        (mix({"builtin": "general", "texts": ["a"]}), "or `builtin`", "schema"),
        ({"calibration": {"texts": ["a"], "sequences": 0}}, "`calibration.sequences`", "schema"),
        (
            {"evaluation": {"texts": ["a"], "windows": "documents"}},
            "packed",
            "omit `evaluation.windows`",
        ),
        ({"calibration": {"texts": ["a"], "mix": [{"texts": ["b"]}]}}, "or `mix`", "schema"),
        ({"calibration": {"mix": []}}, "`mix` has no source", "schema"),
        ({"calibration": {"mix": [{"name": "a"}]}}, "`calibration.mix.0`: give either", "schema"),
        (mix({"texts": ["a.txt"]}, {"texts": ["b/a.txt"]}), "are called `a`", "schema"),
        (mix({"texts": ["a"], "name": "mean"}), "may be called `mean`", "schema"),
        (
            mix({"texts": ["a"], "share": 1}, {"texts": ["b"]}),
            "1 of 2 sources have no",
            "or for none",
        ),
        (
            mix({"texts": ["a"], "share": 0.001}, {"texts": ["b"], "share": 1}),
            "`a` gets none of 64",
            "raise its `share`",
        ),
        ({"evaluation": {"mix": [{"texts": ["a"], "share": 1}]}}, "has a `share`", "omit `share`"),
    ],
)
def test_mistakes_name_the_key_and_the_value(tmp_path, changes, message, hint):
    with pytest.raises(RecipeError) as caught:
        recipes.load(write(tmp_path, **changes))
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_files_of_a_mix_are_looked_for_before_the_run(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    content = mix({"texts": ["a.txt"]}, {"texts": ["b.txt", "c.txt"]}, "no source")
    missing = [str(error) for error in missing_data(content, [tmp_path])]
    assert [message.partition(" does")[0] for message in missing] == [
        "text file `b.txt`",
        "text file `c.txt`",
    ]


def test_all_mistakes_are_said_at_once_each_with_its_fix(tmp_path):
    wrong = {"kep": 0.5, "keep": 2, "score": "newton", "rounds": 2, "allocate": "search"}
    with pytest.raises(RecipeError) as caught:
        recipes.load(write(tmp_path, **wrong), ["keep"])
    assert "`--set keep` is not" in str(caught.value)

    with pytest.raises(RecipeError) as caught:
        recipes.load(write(tmp_path, **wrong))
    every = [caught.value, *caught.value.further]
    said = [str(error).removeprefix("r.yaml: ") for error in every]
    assert [message[:22] for message in said] == [
        "`keep`: must be at mos", "`score`: unknown metho", "unknown key `kep`", "`rounds` above 1 need ",
    ]  # fmt: skip
    assert all(error.hint for error in every)


def test_a_conflict_with_a_section_that_is_wrong_itself_is_not_guessed(tmp_path):
    with pytest.raises(RecipeError, match="unknown method") as caught:
        recipes.load(write(tmp_path, score="fishr", allocate="search"))
    assert caught.value.further == ()


def test_scores_that_do_not_add_up_may_be_searched_with_a_floor(tmp_path):
    floor = {"method": "search", "min_keep": 0.1}
    assert recipes.load(write(tmp_path, score="magnitude", allocate=floor)).score.method
    with pytest.raises(RecipeError, match="would empty whole layers"):
        recipes.load(write(tmp_path, score="magnitude", allocate=floor | {"min_keep": 0}))


@pytest.mark.parametrize("key", ["version", "model", "evaluation"])
def test_what_has_no_default_is_asked_for(tmp_path, key):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != key}))
    with pytest.raises(RecipeError, match=f"`{key}`: is missing"):
        recipes.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep: [0.8", "not YAML"),
        ("- a\n- b", "not a recipe"),
        ("", "not a recipe"),
        ("version: 1\nversion: 1", "given twice"),
        ("x: !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_what_is_not_a_recipe_is_refused(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        recipes.load(path)


def test_set_changes_any_key_before_the_check(tmp_path):
    path = write(tmp_path, score={"method": "numerical"})
    changed = recipes.load(
        path, ["keep=0.5", "score.penalty=2.0", "calibration.sequences=3", "model.revision=abc"]
    )
    assert changed.keep == 0.5
    assert changed.score.penalty == 2.0
    assert changed.calibration.texts == ("a.txt",)
    assert (changed.model.source, changed.model.revision) == ("some/model", "abc")
    assert recipes.load(path, ["score=wanda"]).score.method == "wanda"


@pytest.mark.parametrize("change", ["keep", "=3", "keep=2", "kep=0.5", "keep=[1"])
def test_a_wrong_set_is_refused(tmp_path, change):
    with pytest.raises(RecipeError):
        recipes.load(write(tmp_path), [change])


def test_an_unknown_recipe_suggests_a_shipped_one():
    with pytest.raises(RecipeError) as caught:
        recipes.locate("smolm2-keep80")
    assert "smollm2-keep80" in caught.value.hint


def test_schema_describes_every_key():
    schema = json.loads(recipes.schema_json())
    undescribed = [
        f"{name}.{key}"
        for name, section in {"Recipe": schema, **schema["$defs"]}.items()
        for key, value in section["properties"].items()
        if "description" not in value and key not in PLAIN
    ]
    assert undescribed == []


PLAIN = {
    "method",
    "id",
    "split",
    "revision",
    "dataset",
    "sequences",
    "tokens_per_sequence",
    "batch",
    "parity",
    "benchmark",
    "order",
}
"""Keys whose name says it all, or whose section does."""


@pytest.mark.parametrize("name", sorted(glue.table()))
def test_every_recipe_of_the_glue_table_is_a_recipe(name):
    named_recipe = recipes.named(name, ["keep=0.5"])
    assert (named_recipe.name, named_recipe.recipe.keep) == (name, 0.5)
    assert named_recipe.recipe.score.method == "fisher"
    assert named_recipe.recipe.allocate.length == glue.entry(name).mean_length
    assert named_recipe.recipe.calibration.sequences == 2048
    assert named_recipe.recipe.evaluation.sequences is None


def test_a_file_goes_before_a_name_of_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path).rename(tmp_path / "bert-base-mrpc")
    named_recipe = recipes.named("bert-base-mrpc")
    assert named_recipe.recipe.score.method != "fisher"
    assert named_recipe.folder.resolve() == tmp_path.resolve()
