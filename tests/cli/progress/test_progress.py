"""Progress on a terminal, in a log, and as events: numbers by an injected clock."""

import io
import json
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from numprune_export.cli.progress import events
from numprune_export.cli.progress.console import (
    LINE_EVERY_S,
    Bars,
    Lines,
    RateColumn,
    duration,
    observer,
    state,
)
from numprune_export.cli.progress.events import ANY, Events
from numprune_export.cli.progress.heartbeat import heartbeat
from numprune_export.core.progress import Silent, Tally, growing


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_durations():
    assert [duration(seconds) for seconds in (0.2, 59.4, 59.6, 3599.4, 3725)] == [
        "0 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 02 min",
    ]  # fmt: skip


def test_the_rate_does_not_count_what_came_before_the_first_step():
    tally = Tally("prune", began=0.0, expected=100)
    assert (tally.rate(5.0), tally.remaining(5.0)) == (None, None)
    tally.advance(10, 100.0)
    assert tally.rate(100.0) == pytest.approx(0.1)
    tally.advance(40, 120.0)
    assert tally.rate(120.0) == 2.0
    assert tally.remaining(120.0) == 25.0
    tally.advance(60, 130.0)  # more than was expected
    assert (tally.fraction, tally.remaining(130.0)) == (1.0, 0.0)


def test_time_since_the_last_step_counts_as_work():
    tally = Tally("score", began=0.0, expected=100)
    tally.advance(40, 40.0)
    tally.advance(40, 80.0)
    assert [tally.remaining(now) for now in (80.0, 90.0, 100.0, 101.0)] == [20.0, 10.0, 0.0, None]
    assert state(tally, 101.0) == "80 % (80 of 100), at work for 1 min 41 s"


def test_nothing_is_known_of_a_stage_that_says_nothing():
    tally = Tally("export", began=0.0)
    assert (tally.fraction, tally.remaining(9.0)) == (None, None)


def test_a_log_has_a_line_every_so_often_and_not_more(clock, capsys):
    lines = Lines(clock)
    lines.begin("calibrate")
    lines.expect(100)
    lines.expect(100)
    for _ in range(60):
        clock.now += 1
        lines.advance(1)
        lines.beat()
    lines.end("calibrate", 61.0, resumed=False)
    clock.now += 100
    lines.beat()
    assert capsys.readouterr().err.splitlines() == [
        "  calibrate ...",
        "  calibrate: 15 % (30 of 200), 1/s, 2 min 50 s left",
        "  calibrate: 30 % (60 of 200), 1/s, 2 min 20 s left",
        "✓ calibrate                       61.0 s",
    ]


def test_a_stage_without_steps_is_seen_to_live(clock, capsys):
    lines = Lines(clock)
    lines.begin("export.trt.dense")
    clock.now += LINE_EVERY_S
    lines.beat()
    assert "export.trt.dense: at work for 30 s" in capsys.readouterr().err


def test_bars_add_up_what_is_expected_and_show_a_rate():
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=100)
    with Progress(RateColumn(), console=console) as progress:
        bars = Bars(progress)
        bars.begin("validate")
        bars.expect(10)
        bars.expect(30)
        (task,) = progress.tasks
        assert task.total == 40
        for _ in range(3):
            bars.advance(5)
        assert task.completed == 15
        assert RateColumn().render(task).plain.endswith("/s")
        bars.end("validate", 3.0, resumed=True)
        assert not progress.tasks
    assert "as before" in drawn.getvalue()


def test_a_stage_within_a_stage_has_a_bar_of_its_own():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress(console=console) as progress:
        bars = Bars(progress)
        bars.begin("prune")
        bars.expect(4)
        bars.advance(4)
        bars.begin("prune.reload")
        bars.expect(5)
        bars.advance(2)
        assert [(task.completed, task.total) for task in progress.tasks] == [(4, 4), (2, 5)]
        bars.end("prune.reload", 1.0, resumed=False)
        bars.advance(1)
        (left,) = progress.tasks
        assert (left.description, left.completed) == ("prune", 5)


def test_lines_and_events_of_a_stage_within_a_stage(clock, capsys):
    stream = io.StringIO()
    lines, told = Lines(clock), Events(stream, clock=clock)
    for reporter in (lines, told):
        reporter.begin("prune")
        reporter.expect(8)
        reporter.advance(6)
        reporter.begin("prune.reload")
        reporter.expect(2)
    clock.now += LINE_EVERY_S
    for reporter in (lines, told):
        reporter.advance(1)
        reporter.beat()
        reporter.end("prune.reload", 30.0, resumed=False)
    clock.now += LINE_EVERY_S
    for reporter in (lines, told):
        reporter.beat()
        reporter.end("prune", 60.0, resumed=False)
        reporter.beat()
    err = capsys.readouterr().err
    assert "  prune.reload: 50 % (1 of 2)" in err
    assert "  prune: 75 % (6 of 8)" in err
    shown = [(event.event, event.stage, getattr(event, "done", None)) for event in written(stream)]
    assert shown == [
        ("begin", "prune", None), ("begin", "prune.reload", None), ("progress", "prune.reload", 1),
        ("end", "prune.reload", None), ("progress", "prune", 6), ("end", "prune", None),
    ]  # fmt: skip


def test_quiet_is_silent_and_a_pipe_gets_lines(capsys):
    with observer(quiet=True) as watching:
        assert isinstance(watching, Silent)
    with observer(quiet=False) as watching:
        assert isinstance(watching, Lines)


def test_the_heartbeat_beats_until_the_block_ends():
    twice, beats = threading.Event(), []

    def beat():
        beats.append(1)
        if len(beats) == 2:
            twice.set()

    with heartbeat(beat, every_s=0.001):
        assert twice.wait(5)
    counted = len(beats)
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]
    assert len(beats) == counted


def written(stream):
    return [ANY.validate_json(line) for line in stream.getvalue().splitlines()]


def test_events_are_throttled_and_follow_the_schema(clock):
    stream = io.StringIO()
    told = Events(stream, clock=clock)
    told.begin("calibrate")
    told.expect(40)
    for _ in range(50):  # five seconds
        clock.now += 0.1
        told.advance(1)
        told.beat()
    told.end("calibrate", 5.0, resumed=False)
    told.beat()
    emitted = written(stream)
    assert [event.event for event in emitted] == ["begin", *["progress"] * 5, "end"]
    assert emitted[1].done == 10
    assert emitted[1].expected == 40
    assert emitted[1].rate == pytest.approx(10)
    assert emitted[1].elapsed_s == pytest.approx(1.0)
    assert emitted[1].remaining_s == pytest.approx(3.0)
    assert emitted[5].remaining_s == 0.0


def test_a_stage_that_makes_no_step_is_told_of_now_and_then(clock):
    stream = io.StringIO()
    told = Events(stream, clock=clock)
    told.begin("export")
    for _ in range(61):
        clock.now += 1
        told.beat()
    emitted = written(stream)
    assert [event.event for event in emitted] == ["begin", "progress", "progress"]
    assert (emitted[1].expected, emitted[1].rate, emitted[1].elapsed_s) == (None, None, 30.0)


def test_quiet_events_leave_out_progress(clock):
    stream = io.StringIO()
    told = Events(stream, quiet=True, clock=clock)
    told.begin("export")
    told.advance(1)
    clock.now += 60
    told.beat()
    told.end("export", 60.0, resumed=True)
    assert [event.event for event in written(stream)] == ["begin", "end"]


class Closed(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_a_reader_that_goes_away_does_not_stop_the_run():
    told = Events(Closed())
    told.begin("calibrate")
    told.end("calibrate", 1.0, resumed=False)


def test_every_key_of_every_event_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "reference" / "events.md").read_text()
    for kind in (getattr(events, name) for name in dir(events)):
        if isinstance(kind, type) and issubclass(kind, events._Event) and kind is not events._Event:
            (row,) = re.findall(rf"^\| `{kind.model_fields['event'].default}` (.*)$", text, re.M)
            own = set(kind.model_fields) - {"format", "at", "event"}
            assert own == set(re.findall(r"`(\w+)`", row)) - {"Interrupted"}


class Counting(Silent):
    def __init__(self):
        self.expected, self.steps, self.seen = 0, [], threading.Event()

    def expect(self, steps):
        self.expected += steps

    def advance(self, steps):
        self.steps.append(steps)
        self.seen.set()


def test_files_that_grow_are_steps(tmp_path):
    counted = Counting()
    with growing(tmp_path, 4 << 20, counted, interval_s=0.01):
        (tmp_path / "a").write_bytes(bytes(3 << 20))
        assert counted.seen.wait(5)
    assert counted.expected == 4
    assert sum(counted.steps) == 4
    assert len(counted.steps) >= 2


def test_more_bytes_than_expected_and_a_failure_stay_within_what_was_expected(tmp_path):
    counted = Counting()
    with growing(tmp_path, 100, counted, interval_s=0.01):
        (tmp_path / "a").write_bytes(bytes(2 << 20))
        assert counted.seen.wait(5)
    assert min(counted.steps) >= 0
    assert (counted.expected, sum(counted.steps)) == (1, 1)
    with pytest.raises(ValueError, match="broken"), growing(tmp_path, 9 << 20, Counting()):
        raise ValueError("broken")
    assert not [thread for thread in threading.enumerate() if thread.name == "growing"]


def test_an_event_is_one_line():
    stream = io.StringIO()
    Events(stream).write(events.Warned(message="two\nlines"))
    assert len(stream.getvalue().splitlines()) == 1
    assert json.loads(stream.getvalue())["message"] == "two\nlines"
