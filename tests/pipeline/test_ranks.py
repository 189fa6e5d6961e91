"""A run of several processes, as `torchrun` starts them: the plan and the weights of one process."""

import os
import signal
import socket
from contextlib import ExitStack

import pytest
import torch
from command import command, started
from safetensors.torch import load_file
from small import BRIEF, small_recipe

from numprune_export.numerics import ranks
from numprune_export.numerics.packed import unpacked

BEST = {
    **BRIEF,
    "method": "best",
    "generated_text": 4,
    "query_heads": "single",
    "matmul_precision": "highest",
    "targets": {},
    "calibration": {"texts": ["small.txt"], "sequences": 12, "tokens_per_sequence": 64},
}
FILES = ("model/model.safetensors", "scores/scores.safetensors")
MOMENTS = tuple(f"statistics/block_{index:03d}.safetensors" for index in range(4))


def environment(rank, world, port):
    """What `torchrun` tells a process."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_of(world, folder, out):
    """The first process's result, and the exit codes of the others."""
    port, words = free_port(), ("run", "small.yaml", "--out", out, "--quiet")
    with ExitStack() as stack:
        others = [
            stack.enter_context(started(*words, cwd=folder, **environment(rank, world, port)))
            for rank in range(1, world)
        ]
        first = command(*words, cwd=folder, **environment(0, world, port))
        codes = [other.wait() for other in others]
        return first, codes, [other.err.read() for other in others]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    small_recipe(folder, **BEST)
    done = command("run", "small.yaml", "--out", "alone", "--quiet", cwd=folder)
    assert done.code == 0, done.err
    return folder


def largest_difference(one_run, other_run, file):
    """Of a tensor, relative to its norm."""
    expected, got = (load_file(run / file) for run in (one_run, other_run))
    assert got.keys() == expected.keys()
    differences = [0.0]
    for name, tensor in expected.items():
        if tensor.is_floating_point() and tensor.numel():
            error = (got[name].double() - tensor.double()).norm()
            differences.append(float(error / tensor.double().norm().clamp_min(1e-30)))
    return max(differences)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_texts_and_end_with_the_weights_of_one(alone, world):
    out = f"of-{world}"
    first, codes, errors = run_of(world, alone, out)
    assert first.code == 0, first.err
    assert codes == [0] * (world - 1), errors
    expected, got = alone / "alone", alone / out
    plans = [(run / "plan" / "plan.json").read_text() for run in (expected, got)]
    assert plans[0] == plans[1]
    for file in FILES:
        assert largest_difference(expected, got, file) < 1e-3, file
    for file in MOMENTS:
        sums = [load_file(run / file) for run in (expected, got)]
        for name in sums[0]:
            if name.endswith(".tokens"):
                assert sums[0][name].equal(sums[1][name])
                site = name.removesuffix(".tokens")
                gram, other = (moments(part, site) for part in sums)
                assert float((gram - other).norm() / gram.norm()) < 1e-6, site
    assert {path.name for path in got.iterdir()} == {path.name for path in expected.iterdir()}


def moments(sums, site):
    """Σ x xᵀ, whatever it was shifted by."""
    gram, total = unpacked(sums[f"{site}.gram.packed"]).double(), sums[f"{site}.total"].double()
    shift, tokens = sums[f"{site}.shift"].double(), int(sums[f"{site}.tokens"])
    crossed = torch.outer(total, shift)
    return gram + crossed + crossed.T + tokens * torch.outer(shift, shift)


@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_the_same_command_resumes_it(alone):
    port, words = free_port(), ("run", "small.yaml", "--out", "lost")
    with ExitStack() as stack:
        first, other = (
            stack.enter_context(started(*words, cwd=alone, **environment(rank, 2, port)))
            for rank in range(2)
        )
        for line in first.err:
            if line.strip() == "allocate ...":
                os.kill(other.pid, signal.SIGKILL)
                break
        said = first.err.read()
        assert first.wait() == 8, said
        assert "process 0 of 2 lost another" in said
        assert "the same command resumes" in said
    first, codes, errors = run_of(2, alone, "lost")
    assert first.code == 0, first.err
    assert codes == [0], errors
    assert "calibrate: found" in (alone / "lost" / "log").read_text()


def test_too_few_batches_for_the_processes_are_refused(tmp_path):
    small_recipe(tmp_path, **{**BEST, "calibration": {**BEST["calibration"], "sequences": 4}})
    first, codes, errors = run_of(2, tmp_path, "out")
    assert first.code == 4, first.err
    assert "fewer than 2 processes" in first.err
    assert codes == [4], errors


def test_jobs_are_dealt_by_cost(monkeypatch):
    monkeypatch.setattr(ranks, "sharing", lambda: ranks.Ranks(1, 2))
    assert ranks.dealt([5, 3, 3, 1]) == [1, 2]
    monkeypatch.setattr(ranks, "sharing", lambda: ranks.Ranks(0, 2))
    assert ranks.dealt([5, 3, 3, 1]) == [0, 3]


def test_a_process_alone_exchanges_nothing():
    values = torch.ones(2)
    with ranks.joined() as mine, ranks.together():
        assert mine == ranks.Ranks(0, 1)
        assert ranks.summed(values) is values
        assert ranks.told("x") == "x"
        assert ranks.gathered(3) == [3]
        assert ranks.dealt([1.0, 2.0]) == [0, 1]
    assert values.tolist() == [1, 1]
