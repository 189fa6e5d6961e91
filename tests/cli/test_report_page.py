"""`numprune-export report`: the page of any report, and what a bad one is told."""

import json
import subprocess
import sys

import pytest
from command import command
from report import sample

from numprune_export.cli import app
from numprune_export.core.errors import InputError, OutputError
from numprune_export.report.html.page import render
from numprune_export.report.store import to_json


@pytest.fixture
def run(tmp_path):
    (tmp_path / "report.json").write_text(to_json(sample.report()), encoding="utf-8")
    return tmp_path


def fails(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["numprune-export", "report", *map(str, arguments)])
    app.app(standalone_mode=False)


def test_a_run_folder_gets_its_page_beside_the_report(printed, run):
    assert printed("report", str(run)) == f"page: {run / 'report.html'}\n"
    assert (run / "report.html").read_text(encoding="utf-8") == render(sample.report())


def test_the_text_beside_the_page_is_named_too(printed, run):
    (run / "report.md").touch()
    assert printed("report", str(run)).splitlines() == [
        f"report: {run / 'report.md'}", f"page: {run / 'report.html'}",
    ]  # fmt: skip


def test_a_file_gets_a_page_of_its_name_or_where_it_is_told(printed, run):
    other = run / "other.json"
    other.write_text((run / "report.json").read_text())
    assert printed("report", str(other)) == f"page: {run / 'other.html'}\n"
    printed("report", str(other), "--html", str(run / "here.html"))
    assert (run / "here.html").read_bytes() == (run / "other.html").read_bytes()


def test_an_edited_report_is_said_to_be_one(printed, run):
    content = json.loads((run / "report.json").read_text())
    content["metrics"]["latency.onnx.decode.speedup"]["value"] = 9.0
    (run / "report.json").write_text(json.dumps(content))
    printed("report", str(run))
    assert "was changed after it was written" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format_version": 1}', '{"format_version": 2}']
)
def test_what_is_no_report_is_refused_and_leaves_no_page(monkeypatch, tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError):
        fails(monkeypatch, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_place_that_cannot_be_written_is_named(monkeypatch, run):
    with pytest.raises(OutputError, match="nowhere"):
        fails(monkeypatch, run, "--html", run / "nowhere" / "page.html")


def test_torch_is_not_waited_for(run):
    code = "import sys; from numprune_export.report.html import page; print('torch' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "False\n"
    assert command("report", str(run)).code == 0
