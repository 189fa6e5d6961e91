"""What the stages leave for the report: how scores lie, and every round's time."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from numprune_export.core.stage import Stage
from numprune_export.measure.latency.interleave import Samples
from numprune_export.models.site import Producer, Site
from numprune_export.pipeline.stages.measurements import read_samples, write_samples
from numprune_export.pipeline.stages.report import score_spread
from numprune_export.pruning.plan import Plan

HEADS = Site(0, "attention", 3, (Producer("q", 2), Producer("k", 2)), "o", 2, 9, may_be_empty=True)
UP = Site(0, "mlp", 11, (Producer("up", 1),), "down", 1, 9)


def stage(folder):
    return Stage("some", "key", folder, 0.0, resumed=False)


@pytest.fixture
def scored(tmp_path):
    columns = {
        HEADS.name: torch.tensor([1.0, 3.0, 10.0, 20.0, 5.0, 5.0]),
        UP.name: torch.arange(11.0).flip(0),
    }
    save_file(
        {name: scores.contiguous() for name, scores in columns.items()},
        tmp_path / "scores.safetensors",
    )
    return stage(tmp_path)


def test_a_units_score_is_the_mean_of_its_columns(scored):
    spreads = score_spread(scored, Plan((HEADS, UP), {HEADS.name: (1,), UP.name: tuple(range(11))}))
    assert spreads[HEADS.name].kept == (15.0,) * 7
    assert spreads[HEADS.name].removed == pytest.approx((2, 2.15, 2.75, 3.5, 4.25, 4.85, 5))


def test_quantiles_are_of_what_stays_and_of_what_goes(scored):
    spreads = score_spread(scored, Plan((HEADS, UP), {HEADS.name: (), UP.name: (0, 1, 2)}))
    assert spreads[UP.name].kept == pytest.approx((8, 8.1, 8.5, 9, 9.5, 9.9, 10))
    assert spreads[UP.name].removed == pytest.approx((0, 0.35, 1.75, 3.5, 5.25, 6.65, 7))
    assert spreads[HEADS.name].kept == ()
    assert spreads[HEADS.name].removed[-1] == 15


def test_rounds_survive_the_disk(tmp_path):
    wall = np.array([1.25, 1 / 3, 2.0])
    write_samples(tmp_path, {"latency.onnx.decode.dense": Samples(wall, 2 * wall)})
    assert read_samples(stage(tmp_path)) == {"latency.onnx.decode.dense": (1.25, 1 / 3, 2.0)}


def test_a_stage_of_before_has_no_rounds(tmp_path):
    assert read_samples(stage(tmp_path)) == {}
