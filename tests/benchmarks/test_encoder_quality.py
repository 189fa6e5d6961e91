"""The table of scores and repairs over budgets, on a model of a few layers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "recipes" / "smoke-bert.yaml"


@pytest.fixture
def script(monkeypatch):
    """It imports its page as a file of the same folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import encoder_quality

    return encoder_quality


@pytest.fixture
def run(script, tmp_path, capsys):
    """The script in this process; the JSON beside its page, and the points it told of."""

    def once(**options):
        wanted = {
            "name": str(SMOKE),
            "out": tmp_path / "page.md",
            "keeps": "0.5",
            "seeds": 2,
            "seeds_at": "0.5",
            "search_at": "0",
            "scores": "fisher,magnitude,stat",
            "sequences": 64,
            "rows": 64,
            # At this length heads cost a multiple of what their parameters would say.
            "change": [
                "calibration.max_length=32",
                "evaluation.max_length=32",
                "allocate.length=400",
            ],
        }
        script.main(**{**wanted, **options})
        told = capsys.readouterr().out.splitlines()
        return json.loads((tmp_path / "page.json").read_text()), told

    return once


@pytest.mark.slow
def test_contenders_cost_the_same_and_a_stopped_run_goes_on(run, tmp_path):
    content, told = run()
    points = content["points"]
    names = [(point["score"], point["allocation"], point["repair"]) for point in points]
    pairs = [("fisher", "search"), ("magnitude", "threshold"), ("stat", "threshold")]
    assert names == [(*pair, repair) for pair in pairs for repair in ("none", "refit")]
    assert len(told) == 6
    assert all(0.47 < point["macs"] <= 0.5 for point in points)
    assert all(len(point["values"]) == 2 for point in points)
    for point in points:
        change, low, high = point["change"]
        assert change == pytest.approx(np.mean(point["values"]) - content["about"]["dense"])
        assert low <= change <= high
    # Magnitude sees no calibration data.
    assert points[2]["values"][0] == points[2]["values"][1]
    # Of the same plan, repaired.
    assert points[2]["heads"] == points[3]["heads"]
    assert points[2]["values"] != points[3]["values"]
    assert len(points[0]["heads"]) == len(points[0]["neurons"]) == 4

    again, told = run(keeps="0.7,0.5", scores="fisher")
    assert [line.split(" | ")[0] for line in told] == ["| 0.7", "| 0.7"]
    assert again["points"][:6] == points
    assert [len(point["values"]) for point in again["points"][6:]] == [1, 1]
    page = (tmp_path / "page.md").read_text()
    assert "| score | allocation | repair | 0.7 | 0.5 | ≤ 1 point |" in page
    assert page.count("\n| 0.7 | fisher") == 2
    with pytest.raises(typer.BadParameter, match="another experiment"):
        run(sequences=96)


def test_error_curves_are_priced_as_the_search_and_every_repair_has_its_row(run):
    repairs = ["none", "one_shot", "sequential", "refit"]
    content, _ = run(
        scores="fisher_obs", allocations="curves,rounds", repairs=",".join(repairs), seeds=1
    )
    points = content["points"]
    assert [(point["allocation"], point["repair"]) for point in points] == [
        (way, repair) for way in ("curves", "rounds") for repair in repairs
    ]
    assert all(0.47 < point["macs"] <= 0.5 for point in points)
    # Repairs of one plan; in two rounds it is another.
    kept = [(point["heads"], point["neurons"]) for point in points]
    assert kept == [kept[0]] * 4 + [kept[4]] * 4
    assert kept[0] != kept[4]
    for plan in (points[:4], points[4:]):
        assert len({point["loss"][0] for point in plan}) == 4
    again, _ = run(scores="fisher_obs,obs", repairs="one_shot", keeps="0.5", seeds=1)
    assert len(again["points"]) == 9
    assert (again["points"][8]["heads"], again["points"][8]["neurons"]) != kept[0]


def rows_of(windows):
    return zip(windows.tokens, windows.lengths, strict=True)


def test_gradients_of_some_examples_are_of_a_part_of_the_draw(script):
    short = ["calibration.max_length=16", "evaluation.max_length=16"]
    chosen = script.chosen_recipe(SMOKE, short, sequences=300, rows=32)
    (draw,) = script.prepare(chosen, [SMOKE.parent], seeds=1).draws
    some = draw.curves.kind("fisher_obs-256", 256).texts.gradients
    assert len(some.tokens) == 256
    whole = {tuple(row[:length]) for row, length in rows_of(draw.windows)}
    assert {tuple(row[:length]) for row, length in rows_of(some)} <= whole


def test_draws_are_of_different_examples_and_say_different_things(script):
    short = ["calibration.max_length=16", "evaluation.max_length=16"]
    chosen = script.chosen_recipe(SMOKE, short, sequences=32, rows=32)
    first, second = script.prepare(chosen, [SMOKE.parent], seeds=2).draws
    assert first.windows.tokens.tolist() != second.windows.tokens.tolist()
    for name, statistics in first.statistics.items():
        assert not torch.equal(statistics.gram, second.statistics[name].gram)
        assert not torch.equal(statistics.unit_gradients, second.statistics[name].unit_gradients)


def test_where_nothing_is_pruned_nothing_changes(run):
    content, _ = run(keeps="1", seeds=1, scores="fisher", search_at="1")
    bare, refitted = content["points"]
    assert bare["macs"] == 1
    assert bare["change"] == [0, 0, 0]
    assert refitted["change"] == [0, 0, 0]


def test_a_loss_of_more_than_one_point_ends_the_usable_budgets(script, tmp_path):
    from encoder_quality_page import Page, Point

    page = Page.open(tmp_path / "of.md", {})
    row = [
        Point(keep, "a", "search", "none", (0.9,), (change, -1.0, 1.0), keep, (), ())
        for keep, change in ((0.9, 0.0), (0.7, -0.01), (0.5, -0.011), (0.3, 0.0))
    ]
    page.about = {"dense": 0.9, "set": [], "recipe": "r", "metric": "f1", "dtype": "float32"} | {
        f"{name}": 1 for name in ("evaluation examples", "mean tokens", "calibration examples")
    }
    for point in reversed(row):
        page.add(point)
    curves = next(line for line in page.text().splitlines() if line.startswith("| a |"))
    assert curves == "| a | search | none | 90.0 | 90.0 | 90.0 | 90.0 | 0.7 |"
