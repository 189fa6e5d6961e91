"""report.json survives the disk, and nothing else is taken for one."""

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError
from report import sample

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metric
from numprune_export.export.artifact import Artifact
from numprune_export.models.site import Producer, Site
from numprune_export.pruning.plan import Plan
from numprune_export.report.schema import ArtifactSummary, Measurement, measurements, widths
from numprune_export.report.store import read, to_json


def write(report, path):
    path.write_text(to_json(report), encoding="utf-8")


def test_a_report_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "report.json"
    write(sample.report(), path)
    assert read(path) == sample.report()
    assert list(tmp_path.iterdir()) == [path]


def test_metrics_are_flat_plain_json(tmp_path):
    path = tmp_path / "report.json"
    write(sample.report(), path)
    content = json.loads(path.read_text())
    assert content["format_version"] == 1
    speedup = content["metrics"]["latency.onnx.prefill.speedup"]
    assert speedup["value"] == 134.0 / 95.0
    assert (speedup["low"], speedup["high"], speedup["samples"]) == (1.38, 1.44, 20)
    assert speedup["conditions"]["dtype"] == "float32"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_json_cannot_hold_is_written_as_a_word(tmp_path, value):
    metrics = measurements({"a.b": Metric(value, "nats", 1, low=value, high=value)})
    path = tmp_path / "report.json"
    write(sample.report().model_copy(update={"metrics": metrics}), path)

    def refuse(word):
        raise AssertionError(f"not JSON: {word}")

    json.loads(path.read_text(), parse_constant=refuse)
    back = read(path).metrics["a.b"]
    for got in (back.value, back.low, back.high):
        assert got == value or (math.isnan(got) and math.isnan(value))


def test_conditions_must_be_json():
    with pytest.raises(ValidationError):
        Measurement.of(Metric(1.0, "ms", 1, conditions={"dtype": object()}))


@pytest.mark.parametrize("cut", [0, 1, 40, 0.5, -2])
def test_a_truncated_file_is_refused(tmp_path, cut):
    path = tmp_path / "report.json"
    write(sample.report(), path)
    text = path.read_text()
    path.write_text(text[: int(cut * len(text)) if isinstance(cut, float) else cut])
    with pytest.raises(InputError, match="cannot read the report"):
        read(path)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read the report"):
        read(tmp_path / "report.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "report format `2`"),
        ({"format_version": 0}, "`format_version`"),
        ({"surprise": 1}, "`surprise`"),
        ({"metrics": {"a": {"value": 1}}}, "`metrics.a.unit`"),
        ({"created": "2026-11-22T05:30:00"}, "`created`"),
    ],
)
def test_another_format_is_refused_by_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "report.json"
    content = json.loads(sample.report().model_dump_json()) | change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read(path)


@pytest.mark.parametrize("text", ["[]", "3", '"report"', "null"])
def test_json_that_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is not a report"):
        read(path)


@pytest.mark.parametrize(
    "text", ['{"a": ' + "1" * 5000 + "}", '{"a": "\\ud800"}', "[" * 100_000, "\0", ""]
)
def test_json_that_cannot_be_parsed_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match="cannot read the report"):
        read(path)


def attention(*rows, shared=False, groups=()):
    producers = tuple(
        Producer(name, width, shared and name != "q")
        for name, width in zip("qkv", rows, strict=True)
    )
    return Site(0, "attention", 4, producers, "o", rows[0], 10, groups=groups)


def test_widths_count_what_a_plan_keeps_and_name_the_heads():
    up = (Producer("up", 1),)
    sites = (attention(24, 8, 8), Site(0, "mlp", 96, up, "d", 1, 3))
    plan = Plan(sites, {"layers.0.attention": (0, 3), "layers.0.mlp": tuple(range(50))})
    heads, channels = widths(plan)
    assert (heads.site, heads.kept, heads.units) == ("layers.0.attention", 2, 4)
    assert (heads.heads_per_unit, heads.kept_units, heads.groups) == (3, (0, 3), ())
    assert (channels.kept, channels.units, channels.kept_units) == (50, 96, None)


@pytest.mark.parametrize(
    ("site", "groups"),
    [(attention(8, 8, 8), ()), (attention(8, 8, 8, shared=True, groups=(2, 2)), (2, 2))],
)
def test_a_unit_is_one_head_where_each_has_its_own_key_or_goes_alone(site, groups):
    (width,) = widths(Plan((site,), {site.name: (1,)}))
    assert (width.heads_per_unit, width.groups) == (1, groups)


def test_a_report_of_before_has_no_scores_nor_samples_nor_units(tmp_path):
    content = json.loads(to_json(sample.report()))
    for key in ("scores", "latency_samples", "sha256"):
        content.pop(key)
    for site in content["plan"]:
        for key in ("heads_per_unit", "kept_units", "groups"):
            site.pop(key)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(content))
    report = read(path)
    assert (report.scores, report.latency_samples, report.plan[0].kept_units) == ({}, {}, None)


def test_artifacts_are_named_from_the_run_folder(tmp_path):
    folder = tmp_path / "artifacts" / "onnx"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"12345")
    artifact = Artifact("onnx", folder, "model.onnx", {"model.onnx": "00"}, {"opset": 20})
    summary = ArtifactSummary.of(artifact, tmp_path)
    assert (summary.folder, summary.size_bytes) == ("artifacts/onnx", 5)
    assert str(Path.home()) not in summary.folder
