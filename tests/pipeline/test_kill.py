"""Killed in every stage, a run goes on and ends as if nothing had happened."""

import json
import os
import signal
import time

import psutil
import pytest
from command import command, started
from safetensors.torch import load_file
from small import small_recipe

STAGES = (
    "score",
    "allocate",
    "prune",
    "prune.reload",
    "export.onnx.dense",
    "export.onnx.pruned",
    "validate.dense",
    "validate",
    "benchmark",
)


def kill_in(stage, folder):
    """SIGKILL the run as soon as it says that it begins this stage."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    arguments = ("run", "small.yaml", "--out", "killed")
    with started(*arguments, cwd=folder, TMPDIR=str(temporary)) as process:
        for line in process.err:
            if line.strip() == f"{stage} ...":
                if stage == "prune.reload":
                    wait_for_children(process.pid)
                os.kill(process.pid, signal.SIGKILL)
                break
        return process.wait()


def wait_for_children(number):
    """Until the process has started another."""
    while not psutil.Process(number).children():
        time.sleep(0.01)


def probes(process, folder):
    """Whether a process reloads a checkpoint below the folder."""
    words = process.info["cmdline"] or []
    return any("reload_probe" in word for word in words) and any(str(folder) in w for w in words)


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_with_the_same_plan_and_weights(tmp_path):
    small_recipe(tmp_path)
    undisturbed = command("run", "small.yaml", "--out", "whole", "--quiet", cwd=tmp_path)
    assert undisturbed.code == 0, undisturbed.err

    for stage in STAGES:
        assert kill_in(stage, tmp_path) == -signal.SIGKILL, stage
        assert not (tmp_path / "killed" / "report.json").exists(), stage
    last = command("run", "small.yaml", "--out", "killed", cwd=tmp_path)
    assert last.code == 0, last.err

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    plans = [json.loads((run / "plan" / "plan.json").read_text()) for run in (whole, killed)]
    assert plans[0] == plans[1]
    weights = [load_file(run / "model" / "model.safetensors") for run in (whole, killed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    files = [
        sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (whole, killed)
    ]
    assert files[0] == files[1]
    assert not list((tmp_path / "temporary").glob("numprune*"))
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if probes(process, tmp_path)
    ]
