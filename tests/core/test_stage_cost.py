"""What a stage takes is measured while it is made, kept with it, and read back."""

import json
import subprocess
import sys

import torch

from numprune_export.core.run_folder import open_folder
from numprune_export.core.stage_cost import StageCost, device_peak_bytes, metered
from numprune_export.core.stage_record import STAGE, read_record

MIB = 2**20


def test_memory_that_is_freed_before_the_end_is_seen():
    with metered() as small:
        pass
    with metered() as large:
        held = bytearray(b"1") * (200 * MIB)
        _wait()
        del held
    assert large.cost.host_peak_bytes - small.cost.host_peak_bytes > 150 * MIB


def _wait():
    """Longer than from one reading to the next."""
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.25)"], check=True)


def test_processor_time_includes_processes_that_have_ended():
    with metered() as meter:
        subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    assert meter.cost.processor_seconds > 0.05


def test_without_a_gpu_there_is_no_peak_of_one():
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        torch.zeros(MIB, device="cuda")
        assert device_peak_bytes() >= 4 * MIB
    else:
        assert device_peak_bytes() is None


def test_a_reused_stage_keeps_its_figures_and_an_old_one_has_none(tmp_path):
    def make(folder):
        (folder / "file").write_text("made")

    with open_folder(tmp_path / "run") as run:
        made = run.stage("calibrate", "statistics", "key", make)
    with open_folder(tmp_path / "run") as run:
        again = run.stage("calibrate", "statistics", "key", make)
    assert again.resumed
    assert again.cost == made.cost
    assert made.cost.host_peak_bytes > MIB
    path = made.folder / STAGE
    content = json.loads(path.read_text())
    del content["cost"]
    path.write_text(json.dumps(content))
    assert read_record(made.folder).cost is None


def test_what_was_halved_is_said_and_kept():
    cost = StageCost(1.5, 7 * MIB, None, {"batch": 4})
    assert StageCost.from_json(json.loads(json.dumps(cost.to_json()))) == cost
    assert cost.notices("prune") == ["batch halved to 4 in stage `prune`: the device was full"]
    assert StageCost.from_json({"processor_seconds": "1"}) is None
