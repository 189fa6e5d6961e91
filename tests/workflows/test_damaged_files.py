"""JSON files of runs, artifacts and sweeps: whatever they hold, they are read or refused in one line."""

import json
from datetime import datetime, timezone

import pytest
from gate import runs
from hypothesis import given
from hypothesis import strategies as st
from report.sample import report
from small_sites import sites

from numprune_export.core.errors import InputError
from numprune_export.export.artifact import Artifact
from numprune_export.gate import evidence
from numprune_export.models.checkpoint import manifest
from numprune_export.pipeline.stages.allocate import PLAN, read_plan
from numprune_export.pruning.plan import Plan
from numprune_export.report import store
from numprune_export.workflows.sweep import record

SHA256 = "0" * 64
ARTIFACT = {
    "target": "onnx",
    "entry": "model.onnx",
    "files": {"model.onnx": SHA256},
    "facts": {"dtype": "float32"},
    "evidence": [],
}
SITES = sites(blocks=1)
PLAN_CONTENT = Plan(SITES, {site.name: (0, 2) for site in SITES}).to_json()
SWEEP = record.Sweep(
    created=datetime(2026, 1, 1, tzinfo=timezone.utc),
    recipe_name="small",
    points=(
        record.SweptPoint(
            name="keep0.5", folder="points/keep0.5", keep=0.5, score="wanda", method=None,
            status="waiting",
        ),
    ),
)  # fmt: skip
MANIFEST = {"format_version": 1, "files": {"config.json": {"sha256": SHA256, "bytes": 1}}}
READERS = {
    "artifact.json": (Artifact.load, Artifact.INDEX, ARTIFACT),
    "plan.json": (read_plan, PLAN, PLAN_CONTENT),
    "manifest": (manifest.read, manifest.NAME, MANIFEST),
    "sweep.json": (
        lambda folder: record.read(folder / "sweep.json"),
        "sweep.json",
        json.loads(record.to_json(SWEEP)),
    ),
    "report.json": (
        lambda folder: store.read(folder / "report.json"),
        "report.json",
        json.loads(report().model_dump_json()),
    ),
    "baseline": (
        lambda folder: evidence.read(folder / "base.json"),
        "base.json",
        json.loads(evidence.to_json(runs.evidence())),
    ),
}
SPOILT = {
    "empty": b"",
    "cut": b'{"files": {',
    "not UTF-8": b"\xff\xfe{}",
    "too deep": b"[" * 200_000,
    "a number": b"1",
    "null": b"null",
    "a list": b"[]",
    "no keys": b"{}",
    "a digit too many": b'{"format_version": ' + b"9" * 5000 + b"}",
}


def refused(reader, folder):
    with pytest.raises(InputError) as raised:
        reader(folder)
    assert "\n" not in str(raised.value)
    assert raised.value.hint


def error_of(reader, folder):
    """Why it is refused; None: it is taken. Any other exception is a bug."""
    try:
        reader(folder)
    except InputError as error:
        return error
    return None


@pytest.mark.parametrize("kind", READERS)
def test_the_undamaged_file_is_taken(kind, tmp_path):
    reader, name, content = READERS[kind]
    (tmp_path / name).write_text(json.dumps(content))
    assert error_of(reader, tmp_path) is None


@pytest.mark.parametrize("content", SPOILT)
@pytest.mark.parametrize("kind", READERS)
def test_a_spoilt_file_is_refused(kind, content, tmp_path):
    reader, name, _ = READERS[kind]
    (tmp_path / name).write_bytes(SPOILT[content])
    refused(reader, tmp_path)


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_file_and_a_folder_are_refused(kind, tmp_path):
    reader, name, _ = READERS[kind]
    refused(reader, tmp_path)
    (tmp_path / name).mkdir()
    refused(reader, tmp_path)


ANOTHER_KIND = st.sampled_from([None, True, 0, -1, 1e308, "", "x", [], ["x"], {}, {"x": 1}])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@st.composite
def damaged(draw, content):
    """The content with a value somewhere replaced, or left out."""
    if isinstance(content, dict | list) and content and draw(st.booleans()):
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = draw(st.sampled_from(list(keys)))
        changed = content.copy()
        if draw(st.integers(0, 4)) == 0:
            del changed[key]
        else:
            changed[key] = draw(damaged(content[key]))
        return changed
    return draw(ANOTHER_KIND | JSON)


@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_value_is_taken_or_refused(kind, tmp_path_factory):
    reader, name, content = READERS[kind]
    folder = tmp_path_factory.mktemp("damaged")

    @given(damaged(content))
    def check(value):
        (folder / name).write_text(json.dumps(value))
        error = error_of(reader, folder)
        assert error is None or ("\n" not in str(error) and error.hint)

    check()
