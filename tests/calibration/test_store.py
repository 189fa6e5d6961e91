"""Statistics on disk: what is read back, and what the system is asked to read before it is needed."""

import errno
import os
import time

import pytest
import torch
from safetensors.torch import save_file

from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.statistics import Statistics
from numprune_export.core.stage import Stage
from numprune_export.models.site import Producer, Site
from numprune_export.pipeline.stages.calibrate import Calibrated

MEBIBYTE = 2**20


def site(block, units=4):
    return Site(block, "mlp", units, (Producer("up", 1),), "down", 1, unit_cost=2)


def statistics(units=4, tokens=3):
    square = torch.arange(units * units, dtype=torch.float32).reshape(units, units)
    gram = square + square.T
    total = torch.arange(units, dtype=torch.float64)
    return Statistics(gram, total, tokens, shift=torch.linspace(-1, 1, units))


def resident(path):
    """Whether the last byte of a file is in memory; None where the system does not say."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    with path.open("rb") as file:
        try:
            return bool(
                os.preadv(file.fileno(), [bytearray(1)], path.stat().st_size - 1, os.RWF_NOWAIT)
            )
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return None
            raise


def evict(path):
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_what_is_written_is_read_back(tmp_path):
    moments = statistics()
    statistics_store.write_block(tmp_path, 3, {site(3).name: moments})
    restored = statistics_store.read_site(tmp_path, site(3))
    assert torch.equal(restored.shifted_gram, moments.shifted_gram)
    assert torch.equal(restored.shifted_total, moments.shifted_total)
    assert torch.equal(restored.shift, moments.shift)
    assert (restored.tokens, restored.unit_width) == (3, 1)
    assert restored.unit_gradients is None


def test_matrices_of_earlier_versions_are_read_and_new_ones_take_half(tmp_path):
    units, old, new = 64, tmp_path / "old", tmp_path / "new"
    moments, fisher = statistics(units), torch.rand(units, units).double()
    fisher = fisher + fisher.T
    for folder in (old, new):
        folder.mkdir()
    square = {"gram": moments.shifted_gram, "total": moments.shifted_total, "shift": moments.shift,
              "tokens": torch.tensor(moments.tokens)}  # fmt: skip
    tensors = {f"{site(3).name}.{name}": tensor for name, tensor in square.items()}
    save_file(tensors, old / "block_003.safetensors")
    save_file({"fisher": fisher}, old / f"output_fisher.{site(3).name}.safetensors")
    statistics_store.write_block(new, 3, {site(3).name: moments})
    statistics_store.write_output_fisher(new, {site(3).name: fisher})
    for folder in (old, new):
        restored = statistics_store.read_site(folder, site(3, units))
        assert torch.equal(restored.shifted_gram, moments.shifted_gram)
        assert torch.equal(statistics_store.read_output_fisher(folder, site(3)), fisher)
    taken = statistics_store.gram_bytes(units), statistics_store.fisher_bytes(units)
    files = sorted(new.iterdir())
    for path, expected in zip(files, taken, strict=True):
        assert expected < path.stat().st_size < expected + 2048


def test_the_next_site_is_on_its_way_while_one_is_worked_on(tmp_path):
    units = 1024
    sites = [site(block, units) for block in (0, 1)]
    for sublayer in sites:
        statistics_store.write_block(tmp_path, sublayer.block, {sublayer.name: statistics(units)})
    files = [tmp_path / f"block_{block:03d}.safetensors" for block in (0, 1)]
    assert files[1].stat().st_size > 2 * MEBIBYTE
    if resident(files[1]) is None:
        pytest.skip("this system does not tell what of a file is in memory")
    evict(files[1])
    if resident(files[1]):
        pytest.skip("the files of this folder are always in memory")
    calibrated = Calibrated(Stage("calibrate", "key", tmp_path, 0.0, resumed=False), None)
    turn = calibrated.in_turn(sites)
    assert next(turn)[0] == sites[0]
    latest = time.monotonic() + 10
    while not resident(files[1]) and time.monotonic() < latest:
        time.sleep(0.01)
    assert resident(files[1])
    last, moments = next(turn)
    assert last == sites[1]
    assert torch.equal(moments.gram, statistics(units).gram)
    assert not list(turn)


def test_nothing_is_asked_for_where_there_is_nothing(tmp_path):
    statistics_store.soon(tmp_path, site(7), tmp_path)
    assert not list(tmp_path.iterdir())
