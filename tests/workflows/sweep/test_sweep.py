"""A whole sweep on the tiny model: killed, interrupted, one point failing, and gone on with."""

import json
import os
import re
import signal

import psutil
import pytest
from command import HANGS_S, command, started
from small import small_recipe

from numprune_export.report import store
from numprune_export.workflows.sweep import record

SWEEP = ("sweep", "small.yaml", "--keep", "0.8,0.6,0.5", "--out", "out")
ONCE = ("score", "export.onnx.dense", "validate.dense")
EACH = ("allocate", "prune", "export.onnx.pruned", "validate", "benchmark")


def points_at_work(sweep):
    """Its processes; not the one that proves a saved model, which outlives its run by a moment."""
    children = psutil.Process(sweep).children(recursive=True)
    return [
        process
        for process in children
        if not any("reload_probe" in word for word in process.cmdline())
    ]


def stopped(folder, number, point, stage):
    """Send a signal when, after so many points, a stage begins."""
    with started(*SWEEP, cwd=folder) as process:
        ended = 0
        for line in process.err:
            ended += line.startswith("point ")
            if ended == point and line.strip() == f"{stage} ...":
                children = points_at_work(process.pid)
                os.kill(process.pid, number)
                break
        # Before the pipe is closed: it would end a point that went on.
        _, left = psutil.wait_procs(children, timeout=HANGS_S)
        err = process.err.read() if number == signal.SIGINT else ""
        return process.wait(), err, left


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """keep 0.6 fails, as its folder is somebody else's; killed in the first point, interrupted in the
    last, then left to end."""
    folder = tmp_path_factory.mktemp("sweep")
    small_recipe(folder)
    foreign = folder / "out" / "points" / "keep0.6"
    (folder / "out").mkdir()
    (folder / "out" / ".numprune-sweep").touch()
    foreign.mkdir(parents=True)
    (foreign / "mine.txt").write_text("mine")
    killed = stopped(folder, signal.SIGKILL, 0, "prune")
    between = json.loads((folder / "out" / "sweep.json").read_text())
    interrupted = stopped(folder, signal.SIGINT, 2, "validate")
    last = command(*SWEEP, cwd=folder)
    return folder / "out", killed, between, interrupted, last


def made(folder):
    """How often each stage was made, over all points that have a log."""
    text = "".join(log.read_text() for log in (folder / "points").glob("*/log"))
    stages = re.findall(r" (\S+): made in", text)
    return {stage: stages.count(stage) for stage in {*stages, *ONCE, *EACH}}


@pytest.mark.slow
def test_the_dense_models_part_is_made_once_and_the_rest_once_a_point(swept):
    counts = made(swept[0])
    assert {stage: counts[stage] for stage in ONCE} == dict.fromkeys(ONCE, 1)
    assert {stage: counts[stage] for stage in EACH} == dict.fromkeys(EACH, 2)


def test_killed_it_leaves_no_point_at_work_and_says_what_waits(swept):
    _, (code, _, left), between, _, _ = swept
    assert code == -signal.SIGKILL
    assert left == []
    assert [point["status"] for point in between["points"]] == ["waiting"] * 3


def test_interrupted_it_leaves_no_half_stage_and_says_how_to_go_on(swept):
    folder, _, _, (code, err, left), _ = swept
    assert code == 130
    assert left == []
    assert "this command resumes" in err
    assert "sweep small.yaml --keep 0.8,0.6,0.5 --out out" in err
    assert "Traceback" not in err
    assert not list(folder.rglob(".*.partial"))


def test_a_failing_point_is_told_and_stops_no_other(swept):
    folder, _, _, _, last = swept
    assert last.code == 1
    assert "failed: keep0.6: `" in last.err
    assert "is not empty and not a run" in last.err
    sweep = record.read(folder / "sweep.json")
    assert [(point.name, point.status) for point in sweep.points] == [
        ("keep0.8", "done"), ("keep0.6", "failed"), ("keep0.5", "done"),
    ]  # fmt: skip
    assert sweep.points[1].error.exit_code == 6
    assert last.out.splitlines()[-2:] == [
        "sweep: out/sweep.md",
        "points: out/points/*/report.md, out/points/*/report.html",
    ]
    assert (folder / "points" / "keep0.6" / "mine.txt").read_text() == "mine"


def test_what_is_written_is_what_the_points_measured(swept):
    folder, *_, last = swept
    sweep = record.read(folder / "sweep.json")
    for point in (sweep.points[0], sweep.points[2]):
        report = store.read(folder / point.folder / "report.json")
        assert report.recipe["keep"] == point.keep
        for name, metric in point.metrics.items():
            assert report.metrics[name] == metric
        assert f"quality.{sweep.quality}.{sweep.quality_of}" in point.metrics
    text = (folder / "sweep.md").read_text()
    assert "1 failed" in text
    assert all(line in text for line in last.out.splitlines() if line.startswith("|"))
    assert (folder / "sweep.svg").read_text().count("<svg") == 1


def test_each_point_is_an_ordinary_run(swept):
    folder = swept[0]
    point = str(folder / "points" / "keep0.5")
    verified = command("verify", point)
    assert verified.code == 0, verified.err
    assert "artifacts/onnx/dense" in verified.out
    checked = command("check", point, "--baseline", str(folder / "points" / "keep0.5"))
    assert checked.code == 0, checked.err
