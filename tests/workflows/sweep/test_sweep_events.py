"""`sweep --json`: what a program is told of each point."""

import json
import os
import shlex
import signal

import pytest
from command import HANGS_S, command, start, started
from small import small_recipe

from numprune_export.cli.progress.events import ANY

SWEEP = ("sweep", "small.yaml", "--keep", "0.8,0.6", "--out", "out", "--json")


def events(text):
    return [ANY.validate_json(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """keep 0.6 fails, as its folder is somebody else's; then the same again, which is as before."""
    folder = tmp_path_factory.mktemp("sweep")
    small_recipe(folder)
    foreign = folder / "out" / "points" / "keep0.6"
    foreign.mkdir(parents=True)
    (folder / "out" / ".numprune-sweep").touch()
    (foreign / "mine.txt").touch()
    return folder, command(*SWEEP, cwd=folder), command(*SWEEP, "--quiet", cwd=folder)


def test_stdout_is_events_alone_from_start_to_sweep(swept):
    folder, done, _ = swept
    assert done.code == 1
    assert "point" not in done.err
    stream = events(done.out)
    first, last = stream[0], stream[-1]
    assert (first.event, first.recipe, first.folder) == ("start", "small", "out")
    assert first.points == ("keep0.8", "keep0.6")
    assert (last.event, last.done, last.failed) == ("sweep", 1, 1)
    assert json.loads((folder / last.path).read_text())["format_version"] == 1
    assert (folder / last.markdown).read_text().startswith("# Sweep: small")


def test_each_stage_names_its_point_and_each_point_its_end(swept):
    folder, done, _ = swept
    stream = events(done.out)
    stages = [event for event in stream if event.event in ("begin", "progress", "end")]
    assert {event.point for event in stages} == {"keep0.8"}
    begun = [event.stage for event in stages if event.event == "begin"]
    assert sorted(begun) == sorted(event.stage for event in stages if event.event == "end")
    assert {"score", "prune", "benchmark"} <= set(begun)
    good, bad = (event for event in stream if event.event == "point")
    assert (good.point, good.ended, good.error) == ("keep0.8", 1, None)
    report = json.loads((folder / good.path).read_text())
    assert report["summary"] == good.summary
    assert (folder / good.markdown).is_file()
    assert (folder / good.html).is_file()
    warned = [(event.point, event.message) for event in stream if event.event == "warning"]
    assert warned == [("keep0.8", message) for message in report["warnings"]]
    assert (bad.point, bad.ended, bad.path, bad.error.exit_code) == ("keep0.6", 2, None, 6)
    assert "is not empty and not a run" in bad.error.message
    assert bad.error.hint


def test_quiet_leaves_out_progress_and_finished_stages_are_resumed(swept):
    stream = events(swept[2].out)
    kinds = {event.event for event in stream} - {"warning"}
    assert kinds == {"start", "begin", "end", "point", "sweep"}
    assert all(event.resumed for event in stream if event.event == "end")


def test_a_mistake_is_an_event_with_its_exit_code(tmp_path):
    small_recipe(tmp_path)
    result = command("sweep", "small.yaml", "--keep", "7", "--json", cwd=tmp_path)
    (event,) = events(result.out)
    assert (event.event, event.kind, event.hint) == (
        "error", "RecipeError", "for example `--keep 0.9,0.8,0.7`",
    )  # fmt: skip
    assert result.code == event.exit_code == 2


@pytest.mark.slow
def test_ctrl_c_is_an_event_with_the_command(tmp_path):
    small_recipe(tmp_path)
    with started(*SWEEP, cwd=tmp_path) as process:
        for line in process.out:
            if '"begin","stage":"score"' in line:
                os.kill(process.pid, signal.SIGINT)
                break
        out, err = process.out.read(), process.err.read()
        assert process.wait() == 130, err
    last = events(out)[-1]
    assert (last.event, last.kind, last.exit_code) == ("error", "Interrupted", 130)
    assert shlex.split(last.resume)[-7:] == list(SWEEP)
    assert "this command resumes" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_stop_the_sweep(tmp_path):
    """As a user starts it: a fresh process, whose points are forks of a server of its own."""
    small_recipe(tmp_path)
    arguments = ("sweep", "small.yaml", "--keep", "0.8", "--out", "out", "--json")
    with start(*arguments, cwd=tmp_path) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=HANGS_S)
    assert process.returncode == 0, err
    sweep = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [point["status"] for point in sweep["points"]] == ["done"]
