"""What is drawn is what the report holds: marks are counted and measured in the SVG itself."""

import itertools
import re

import pytest
from report import sample
from report.markup import parse

from numprune_export.report.html import marks, theme
from numprune_export.report.html.page import speed_plots
from numprune_export.report.html.plan_plots import plan_plots, plan_table
from numprune_export.report.html.quality_plots import quality_plots
from numprune_export.report.html.score_plots import score_plots
from numprune_export.report.html.svg import WIDTH, draw
from numprune_export.report.schema import SiteScores, SiteWidth


def paths(plot, role, paint="fill"):
    """Subpaths painted in a colour of the page, each as its points (x, y)."""
    drawn = [
        element.attributes["d"]
        for element in parse(plot.svg).all("path")
        if f"{paint}: var(--{role})" in element.attributes.get("style", "")
    ]
    parts = [part for path in drawn for part in path.split("M")[1:]]
    numbers = [re.findall(r"([\d.-]+) ([\d.-]+)", part) for part in parts]
    return [[(float(x), float(y)) for x, y in points] for points in numbers]


def span(subpath, axis=0):
    values = [point[axis] for point in subpath]
    return max(values) - min(values)


def texts(plot):
    return [element.text for element in parse(plot.svg).all("text")]


def heads(**changes):
    content = {"site": "layers.0.attention", "kept": 2, "units": 4, "heads_per_unit": 1}
    return SiteWidth(**{**content, "kept_units": (1, 3), **changes})


def test_a_cell_is_filled_for_every_head_that_stays():
    (plot,) = plan_plots([heads()])
    stay, gone = paths(plot, "pruned"), paths(plot, "dense", "stroke")
    assert (len(stay), len(gone)) == (2, 2)
    left = sorted(min(x for x, _ in subpath) for subpath in (*stay, *gone))
    assert [left.index(min(x for x, _ in subpath)) for subpath in stay] == [1, 3]
    assert "2 of 4 heads kept, 50.0 %." in parse(plot.svg).all("desc")[0].text


def test_gaps_part_groups_that_share_a_key():
    (plot,) = plan_plots([heads(groups=(3, 1), kept_units=(0, 1, 2, 3), kept=4)])
    left = sorted(min(x for x, _ in subpath) for subpath in paths(plot, "pruned"))
    first, second, wide = (after - before for before, after in itertools.pairwise(left))
    assert first == pytest.approx(second, abs=0.05)
    assert wide == pytest.approx(1.5 * first, rel=0.01)


def test_bars_of_channels_are_as_long_as_what_stays():
    plan = [
        SiteWidth(site=f"layers.{at}.mlp", kept=kept, units=96)
        for at, kept in enumerate((96, 24, 0))
    ]
    (plot,) = plan_plots(plan)
    lengths = [span(subpath) for subpath in paths(plot, "pruned")]
    assert lengths == [pytest.approx(lengths[0] / 96 * site.kept, abs=0.02) for site in plan]
    assert [text for text in texts(plot) if text in ("96", "24")] == ["96", "24"]


def test_the_table_names_the_heads_that_are_gone():
    table = plan_table([heads(), SiteWidth(site="layers.0.mlp", kept=3, units=9)])
    assert table.header == ("layer", "heads kept", "heads removed", "MLP channels kept")
    assert table.rows == (("0", "2 of 4", "0, 2", "3 of 9"),)


def test_scores_span_from_quantile_to_quantile():
    plan = [SiteWidth(site="layers.0.mlp", kept=1, units=2)]
    scores = {
        "layers.0.mlp": SiteScores(kept=(4, 5, 6, 7, 8, 9, 10), removed=(0, 1, 1, 2, 3, 3, 4))
    }
    (plot,) = score_plots(plan, scores)
    level = [subpath for subpath in paths(plot, "pruned", "stroke") if span(subpath, 1) == 0]
    assert sorted(span(subpath) for subpath in level)[0] * 2 == pytest.approx(
        max(map(span, level)), abs=0.05
    )
    assert plot.table.rows[0] == ("0, kept", "4", "5", "6", "7", "8", "9", "10")
    assert "logarithmic" not in " ".join(texts(plot))


def test_scores_far_apart_are_drawn_by_their_powers():
    plots = score_plots(sample.report().plan, sample.report().scores)
    attention, mlp = (" ".join(texts(plot)) for plot in plots)
    assert "score, logarithmic" in mlp
    assert "logarithmic" not in attention
    assert "mathdefault" not in mlp


def test_scores_that_are_not_finite_leave_the_picture_to_the_others():
    endless = SiteScores(kept=(float("inf"),) * 7, removed=(float("nan"),) * 7)
    assert score_plots(sample.report().plan, {"layers.0.mlp": endless}) == ()


def test_every_round_is_a_stroke_and_the_median_a_taller_one():
    speed, times = speed_plots(sample.report())[:2]
    assert "1.41x" in texts(speed)
    strokes = paths(times, "dense", "stroke")
    # Twenty rounds and a median, of two phases.
    assert len(strokes) == 42
    assert len({round(span(subpath, 1)) for subpath in strokes}) == 2


def test_rounds_far_out_are_told_by_an_arrow():
    report = sample.report()
    name = "latency.onnx.decode.pruned"
    samples = {**report.latency_samples, name: (*report.latency_samples[name][:-1], 999.0)}
    before, after = (
        speed_plots(report.model_copy(update={"latency_samples": rounds}))[1]
        for rounds in (report.latency_samples, samples)
    )
    assert "Arrow" not in before.caption
    assert after.caption.endswith("Arrow: some rounds took longer.")
    arrows = [parse(plot.svg).all("use") for plot in (before, after)]
    assert len(arrows[1]) == len(arrows[0]) + 1


def test_without_rounds_lines_run_to_the_99th_percentile():
    bare = sample.report().model_copy(update={"latency_samples": {}})
    times = speed_plots(bare)[1]
    assert "does not hold the rounds" in times.caption
    assert len(paths(times, "dense", "stroke")) == 4


def test_scores_of_models_stand_where_their_values_are():
    (plot,) = quality_plots(sample.report().metrics)
    assert [label for label in texts(plot) if label in ("18.2", "60.1", "25.3", "25.31")] == [
        "18.2", "60.1", "25.3", "25.31",
    ]  # fmt: skip
    bars = paths(plot, "dense", "stroke")
    assert span(bars[1]) / span(bars[0]) == pytest.approx((71 - 50) / (20.5 - 16), rel=0.01)


def test_a_score_that_is_no_number_is_said_and_not_drawn():
    metrics = dict(sample.report().metrics)
    lost = metrics["quality.perplexity.masked"].model_copy(update={"value": float("inf")})
    (plot,) = quality_plots({**metrics, "quality.perplexity.masked": lost})
    assert plot.caption.endswith("Not a finite number, so not drawn: masked.")
    assert "masked only" not in texts(plot)


def test_names_are_text_and_ids_those_of_the_plot():
    def paint(axes):
        axes.plot([1], [1], "o", color=theme.PRUNED)
        axes.set_yticks([1], ["<b> $x$ 漢"])

    svg = draw("mine", 90, paint, title="a & b", description="c")
    tree = parse(svg)
    assert "<b> $x$ 漢" in [element.text for element in tree.all("text")]
    assert tree.all("svg")[0].attributes["viewbox"] == f"0 0 {WIDTH} 90"
    ids = [element.attributes["id"] for element in tree.walk() if "id" in element.attributes]
    assert all(identifier.startswith("mine-") for identifier in ids)
    assert not tree.all("style", "metadata")


def test_nothing_to_mark_is_no_mark():
    def paint(axes):
        marks.boxes(axes, [], facecolor=theme.PRUNED)
        marks.ticks(axes, [], edgecolor=theme.PRUNED)

    assert "var(--pruned)" not in draw("none", 90, paint, title="t", description="d")
