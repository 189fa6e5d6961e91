"""The page as a parser reads it: whole, self-contained, of the report's numbers, for everybody."""

import math
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from report import sample
from report.markup import parse

from numprune_export.report.html.cards import cards
from numprune_export.report.html.page import render
from numprune_export.report.store import to_json
from numprune_export.report.tables.format import measured, number

WARNED = {
    "warnings": ("the clocks were held down",),
    "not_run": {"trt-rtx": "no CUDA device"},
    "dense_sha256": "ab" * 32,
    "evaluation_sha256": "cd" * 32,
}


def reports():
    decoder = sample.report()
    lost = {
        name: metric.model_copy(update={"value": value, "low": value, "high": value})
        for (name, metric), value in zip(
            decoder.metrics.items(), [math.nan, math.inf, -math.inf, 0.0] * 99, strict=False
        )
    }
    half = dict(list(decoder.metrics.items())[::2])
    old = [
        site.model_copy(update={"heads_per_unit": None, "kept_units": None})
        for site in decoder.plan
    ]
    nothing = {
        "metrics": {},
        "plan": (),
        "scores": {},
        "artifacts": {},
        "stages": {},
        "latency_samples": {},
    }
    return {
        "decoder": decoder,
        "warned": decoder.model_copy(update=WARNED),
        "encoder": sample.encoder(),
        "old": decoder.model_copy(
            update={"plan": tuple(old), "scores": {}, "stages": {}, "latency_samples": {}}
        ),
        "lost": decoder.model_copy(update={"metrics": lost}),
        "half": decoder.model_copy(update={"metrics": half}),
        "empty": decoder.model_copy(update=nothing),
    }


REPORTS = reports()


@pytest.fixture(scope="module")
def pages():
    rendered = {}

    def page(name):
        if name not in rendered:
            rendered[name] = render(REPORTS[name])
        return rendered[name]

    return page


@pytest.fixture(params=sorted(REPORTS))
def text(request, pages):
    return pages(request.param)


@pytest.fixture
def page(text):
    return parse(text)


def test_the_page_is_well_formed_and_says_its_language(page):
    (html,) = page.all("html")
    assert html.attributes["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("head", "body", "main", "h1")] == [1] * 4
    assert len(page.all("head")[0].all("title")) == 1
    (viewport,) = page.all("meta", name="viewport")
    assert viewport.attributes["content"] == "width=device-width, initial-scale=1"


def test_nothing_is_fetched_and_nothing_is_run(text, page):
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"].startswith("default-src 'none';")
    assert not page.all("script", "img", "iframe", "object", "embed", "audio", "video", "form")
    for element in page.walk():
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (
                element.attributes.get(name, "#")[:1] == "#" or element.attributes[name] == "data:,"
            )
    (style,) = page.all("style")
    assert "@import" not in style.text
    assert set(re.findall(r"url\(.", text)) <= {"url(#"}
    assert "://" not in text
    assert "var(--" in text


def test_ids_are_unique_and_every_reference_is_kept(text, page):
    ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    wanted = set(re.findall(r"url\(#([^)]+)\)", text))
    for element in page.walk():
        wanted |= set(element.attributes.get("aria-labelledby", "").split())
        if element.attributes.get("href", "").startswith("#"):
            wanted.add(element.attributes["href"][1:])
    assert wanted
    assert wanted <= set(ids)


def test_headings_descend_one_level_at_a_time(page):
    levels = [int(heading.tag[1]) for heading in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_table_names_itself_its_columns_and_its_rows(page):
    for table in page.all("table"):
        (caption,) = table.all("caption")
        assert caption.text
        columns = table.all("th", scope="col")
        rows = [row for body in table.all("tbody") for row in body.all("tr")]
        assert columns
        assert rows
        for row in rows:
            cells = [child for child in row.children if not isinstance(child, str)]
            assert [cell.tag for cell in cells] == ["th"] + ["td"] * (len(cells) - 1)
            assert cells[0].attributes["scope"] == "row"
            assert len(cells) in (len(columns), len(columns) + 1)


def test_every_picture_is_told_in_words(page):
    for figure in page.all("figure"):
        (svg,) = figure.all("svg")
        assert svg.attributes["role"] == "img"
        told = {element.attributes["id"]: element.text for element in svg.all("title", "desc")}
        assert list(told) == svg.attributes["aria-labelledby"].split()
        assert all(len(words) > 10 for words in told.values())
        assert all(caption.text for caption in figure.all("figcaption"))
        assert len(figure.all("figcaption")) == 1


def test_pictures_take_their_colours_from_the_page(pages):
    page = parse(pages("decoder"))
    drawn = [element for svg in page.all("svg") for element in svg.walk()]
    styles = " ".join(element.attributes.get("style", "") for element in drawn)
    assert not re.search(r"#[0-9a-f]{3,6}", styles)
    for role in ("ink", "muted", "line", "dense", "pruned", "ideal"):
        assert f"var(--{role})" in styles


def test_the_verdict_comes_first(pages):
    body = parse(pages("decoder")).all("body")[0]
    told = [element.text for element in body.all("p", "h1", "h2", "h3") if element.text]
    assert told[:3] == ["Pruning report", "smollm2-keep80", sample.report().summary]


@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_every_number_in_the_cards_is_the_reports(pages, name):
    metrics, shown = REPORTS[name].metrics, parse(pages(name)).all("data")
    forms = {"ratio": "{:.2f}x".format, "perplexity per token": number, "logit": number}
    assert len(shown) >= 5
    for element in shown:
        of = metrics[element.attributes["data-metric"]]
        assert float(element.attributes["value"]) == of.value
        quality = element.attributes["data-metric"].startswith("quality.")
        form = (
            number if quality else forms.get(of.unit, lambda value, of=of: measured(value, of.unit))
        )
        assert element.text == form(of.value)


def test_the_cards_are_quality_speed_size_memory_and_parity():
    shown = {
        card.title: [figure.metric for figure in card.figures] for card in cards(sample.report())
    }
    assert shown == {
        "Quality": ["quality.perplexity.onnx", "quality.perplexity.dense"],
        "Speed on onnx": ["latency.onnx.prefill.speedup", "latency.onnx.decode.speedup"],
        "Size": ["size.parameters.pruned", "size.bytes.pruned"],
        "Memory on onnx": ["memory.onnx.pruned.peak_bytes"],
        "onnx against PyTorch": ["parity.onnx.max_abs_error"],
    }


def test_many_shapes_are_told_by_the_slowest_and_the_fastest():
    report = sample.encoder()
    metrics = dict(report.metrics)
    name = "latency.onnx.forward.b8.l16.speedup"
    metrics[name] = metrics[name].model_copy(update={"value": 0.9, "low": 0.8, "high": 1.1})
    speed = cards(report.model_copy(update={"metrics": metrics}))[1]
    assert [figure.text for figure in speed.figures] == ["0.90x", "1.80x"]
    assert speed.figures[0].label == "slowest of 4 shapes, 8 × 16"
    assert speed.notes == ("Significantly faster at 3 of 4 shapes",)


def test_what_is_not_measured_is_said_so(pages):
    told = [section.text for section in parse(pages("empty")).all("section", **{"class": "card"})]
    assert told == ["Quality Not measured.", "Speed Not measured.", "Size Not measured."]
    warned = parse(pages("warned")).all("main")[0].text
    assert "Built, but not run here: no CUDA device" in warned
    assert "the clocks were held down" in warned


@pytest.mark.parametrize("name", sorted(sample.report().metrics))
def test_cards_do_without_any_one_metric(name):
    metrics = {key: metric for key, metric in sample.report().metrics.items() if key != name}
    for card in cards(sample.report().model_copy(update={"metrics": metrics})):
        assert name not in [figure.metric for figure in card.figures]
        assert card.figures or card.notes


def test_everything_that_must_be_on_the_page_is(pages):
    report = REPORTS["warned"]
    told = parse(pages("warned")).all("body")[0].text
    for pair in (
        *report.environment.packages.items(),
        ("Some CPU | with a pipe", "8.0 GiB"),
        ("model.onnx.data", "11"),
        ("keep: 0.8", "graph: gqa"),
        (report.dense_sha256, report.evaluation_sha256),
        ("artifacts/onnx/dense", "513.2 MiB"),
    ):
        for text in pair:
            assert text in told
    titles = [heading.text for heading in parse(pages("warned")).all("h2")]
    assert titles == [
        "Warnings", "Not run here", "At a glance", "Quality", "Speed", "Size and memory", "Kept units",
        "Parity with PyTorch", "How it was made", "Artifacts", "Environment", "Recipe",
    ]  # fmt: skip


def test_a_report_of_before_says_what_it_lacks(pages):
    told = parse(pages("old")).all("main")[0].text
    for phrase in ("which heads are kept", "the scores of units", "the time of every round"):
        assert phrase in told
    assert "holds only the number of kept units" in told
    assert "does not hold the rounds" in told
    assert "It does not hold" not in parse(pages("warned")).all("main")[0].text


def test_an_edited_report_is_said_to_be_one():
    assert "was changed after it was written" in render(REPORTS["empty"], seal="edited")
    assert "was changed after it was written" not in render(REPORTS["empty"], seal="absent")


def test_what_a_report_says_cannot_become_markup():
    nasty = "<script>alert('x')</script> & \"$x$\" https://x.example"
    base = sample.report()
    metrics = {
        f"quality.{nasty}.dense": base.metrics["quality.perplexity.dense"],
        f"quality.{nasty}.{nasty}": base.metrics["quality.perplexity.pruned"],
    }
    artifact = base.artifacts["onnx.dense"].model_copy(
        update={"files": {nasty: nasty}, "facts": {nasty: nasty}, "folder": nasty}
    )
    changes = {
        "recipe_name": nasty,
        "summary": nasty,
        "metrics": metrics,
        "warnings": (nasty,),
        "not_run": {nasty: nasty},
        "artifacts": {nasty: artifact},
        "recipe": {nasty: nasty},
        "scores": {},
    }
    page = parse(render(base.model_copy(update=changes)))
    assert not page.all("script")
    (title,) = page.all("h1")
    assert title.text == nasty
    assert (
        len([element for element in page.walk() if element.attributes.get("href", "#")[:1] != "#"])
        == 1
    )


@pytest.mark.slow
def test_the_same_report_gives_the_same_bytes_in_any_process(tmp_path, pages):
    path = tmp_path / "report.json"
    path.write_text(to_json(REPORTS["decoder"]), encoding="utf-8")
    (tmp_path / "matplotlibrc").write_text("axes.grid: True\nsvg.fonttype: path\nfont.size: 31\n")
    code = (
        "import sys; from pathlib import Path; from numprune_export.report.html.page import render;"
        "from numprune_export.report.store import read;"
        "sys.stdout.buffer.write(render(read(Path('report.json'))).encode())"
    )
    for seed in ("1", "2"):
        completed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            capture_output=True,
            check=True,
        )
        assert completed.stdout.decode() == pages("decoder")


def luminance(color):
    """WCAG 2.2, relative luminance."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(color, other):
    light, dark = sorted((luminance(color), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes():
    import numprune_export.report.html as html

    style = (Path(html.__file__).parent / "templates" / "style.css").read_text()
    blocks = re.findall(r":root \{([^}]*)\}", style)
    palettes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    rest = re.sub(r":root \{[^}]*\}", "", style)
    assert not re.search(r"#[0-9a-f]{3,8}\b", rest), "a colour that no scheme can change"
    return dict(zip(("light", "dark", "print"), palettes, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_marks_stand_out_from_what_is_behind_them(scheme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    colors = schemes()[scheme]
    for text in ("ink", "muted", "link"):
        for behind in ("paper", "card", "alert"):
            assert contrast(colors[text], colors[behind]) >= 4.5, (text, behind)
    for mark in ("dense", "pruned", "ideal", "alert-line"):
        assert contrast(colors[mark], colors["paper"]) >= 3, mark


def test_schemes_define_the_same_colours():
    light, dark, paper = schemes().values()
    assert light.keys() == dark.keys() == paper.keys()
