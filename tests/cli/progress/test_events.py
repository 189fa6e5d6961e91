"""`run --json` and Ctrl-C, as processes of their own."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from command import HANGS_S, command, start, started
from small import small_recipe

from numprune_export.cli.progress import interrupts
from numprune_export.cli.progress.events import ANY
from numprune_export.core.progress import Silent


def events(text):
    return [ANY.validate_json(line) for line in text.splitlines()]


@pytest.mark.slow
def test_stdout_is_events_alone_from_start_to_report(tmp_path):
    small_recipe(tmp_path)
    result = command("run", "small.yaml", "--out", "out", "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.err == ""
    emitted = events(result.out)
    assert emitted[0].event == "start"
    assert (emitted[0].recipe, emitted[0].folder) == ("small", "out")
    last = emitted[-1]
    assert last.event == "report"
    report = json.loads((tmp_path / last.path).read_text())
    assert report["summary"] == last.summary
    assert (tmp_path / last.markdown).read_text().startswith("# Pruning report: small")
    assert (tmp_path / last.html).read_text().startswith("<!doctype html>")
    begun = [event.stage for event in emitted if event.event == "begin"]
    ended = [event.stage for event in emitted if event.event == "end"]
    inner, outer = ["prune.save", "prune.reload"], begun.index("prune")
    assert begun[outer : outer + 3] == ["prune", *inner]
    assert ended[outer : outer + 3] == [*inner, "prune"]
    assert [name for name in begun if name not in inner] == [
        name for name in ended if name not in inner
    ]
    assert begun[0] == "score"
    assert begun[-1] == "benchmark"

    shown = command("run", "small.yaml", "--out", "out", "--quiet", cwd=tmp_path)
    assert shown.out.splitlines() == [
        last.summary, f"report: {last.markdown}", f"page: {last.html}"
    ]  # fmt: skip

    again = command("run", "small.yaml", "--out", "out", "--json", "--quiet", cwd=tmp_path)
    emitted = events(again.out)
    assert {event.event for event in emitted} == {"start", "begin", "end", "report"}
    assert all(event.resumed for event in emitted if event.event == "end")


def test_a_mistake_is_an_event_with_its_exit_code(tmp_path):
    small_recipe(tmp_path)
    result = command("run", "small.yaml", "--set", "keep=7", "--json", cwd=tmp_path)
    (event,) = events(result.out)
    assert (event.event, event.kind) == ("error", "RecipeError")
    assert result.code == event.exit_code == 2
    assert "`keep`" in event.message
    assert event.hint
    assert result.err.startswith("error: ")


def test_what_libraries_print_does_not_reach_stdout():
    program = (
        "import os, subprocess, sys\n"
        "from numprune_export.cli.progress.events import events_only\n"
        "with events_only() as stream:\n"
        "    print('a library'); os.write(1, b'native code\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"a child\")'])\n"
        "    stream.write('event\\n')\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "event\nafter\n"
    assert {"a library", "native code", "a child"} <= set(done.stderr.splitlines())


def interrupted_in(stage, folder, *options, again_s=0.0):
    """Ctrl-C, as a terminal gives it to the run and its children, as soon as a stage begins."""
    with started("run", "small.yaml", "--out", "out it", *options, cwd=folder) as process:
        read = []
        for line in process.out if "--json" in options else process.err:
            read.append(line)
            if f'"begin","stage":"{stage}"' in line or line.strip() == f"{stage} ...":
                break
        os.killpg(process.pid, signal.SIGINT)
        while again_s and psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(again_s)
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.out.read(), process.err.read()
        text = "".join(read)
        return process.wait(), *((text + out, err) if "--json" in options else (out, text + err))


@pytest.mark.slow
@pytest.mark.parametrize("again_s", [0.0, 0.02])
def test_one_ctrl_c_or_many_leave_whole_stages_and_the_command(tmp_path, again_s):
    small_recipe(tmp_path)
    code, _, err = interrupted_in("prune", tmp_path, again_s=again_s)
    assert code == 130, err
    assert "Traceback" not in err
    run = tmp_path / "out it"
    assert not [path for path in run.rglob("*") if "partial" in path.name]
    assert not (run / "model").exists()
    assert (run / "plan" / "stage.json").exists()

    line = next(err_line.strip() for err_line in err.splitlines() if " run small.yaml" in err_line)
    arguments = shlex.split(line)
    given = ["run", "small.yaml", "--out", "out it"]
    assert arguments == ["numprune-export", *given]
    if not again_s:  # once is enough to go on from
        return
    done = command(*given, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "= score" in done.err
    assert (run / "report.json").exists()


@pytest.mark.slow
def test_ctrl_c_is_an_event_with_the_command(tmp_path):
    small_recipe(tmp_path)
    code, out, err = interrupted_in("prune", tmp_path, "--json")
    assert code == 130
    last = events(out)[-1]
    assert (last.event, last.kind, last.exit_code) == ("error", "Interrupted", 130)
    assert shlex.split(last.resume)[-5:] == ["run", "small.yaml", "--out", "out it", "--json"]
    assert "Traceback" not in err


def test_ctrl_c_held_back_counts_once_the_work_is_done():
    done, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.held_back():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
        assert done == [1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with interrupts.held_back():
            pass
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_that_is_ignored_stays_ignored_where_it_is_held_back():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.held_back():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which libraries are loaded")
def test_ctrl_c_while_pytorch_is_imported(tmp_path):
    small_recipe(tmp_path)
    with start("run", "small.yaml", cwd=tmp_path) as process:
        loaded = Path(f"/proc/{process.pid}/maps")
        while process.poll() is None and "libtorch" not in loaded.read_text():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=HANGS_S)
    assert process.returncode == 130, err
    assert "this command resumes" in err
    assert "Traceback" not in err


def test_a_further_ctrl_c_counts_again_after_the_grace(monkeypatch):
    monkeypatch.setattr(interrupts, "GRACE_S", 0.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.stopping_once():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            raise AssertionError("the second one was lost")
    finally:
        signal.signal(signal.SIGINT, before)


def test_within_the_grace_it_is_answered_and_does_nothing(capfd):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupts.stopping_once():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopping" in capfd.readouterr().err


@pytest.mark.parametrize("step", [lambda watching: watching.begin("prune"), lambda w: w.advance(1)])
def test_ctrl_c_that_a_callback_swallowed_counts_at_the_next_step(step):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watching = interrupts.Stoppable(Silent())
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.stopping_once():
            step(watching)
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            step(watching)
            raise AssertionError("it was lost")
        with interrupts.stopping_once():
            step(watching)
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.stopping_once():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_command_is_quoted_and_short_where_a_shell_finds_it(monkeypatch, tmp_path):
    script = tmp_path / "numprune-export"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "run", "a b.yaml", "--set", "score={x: 1}"])
    told = "run 'a b.yaml' --set 'score={x: 1}'"
    monkeypatch.setenv("PATH", "/nowhere")
    assert interrupts.command_line() == f"{script} {told}"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert interrupts.command_line() == f"numprune-export {told}"
