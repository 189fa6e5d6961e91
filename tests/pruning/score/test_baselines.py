"""The baselines against their papers' formulas, written out element by element."""

import math

import pytest
import torch

from numprune_export.calibration.statistics import Statistics
from numprune_export.pruning.score.flap import Flap
from numprune_export.pruning.score.magnitude import Magnitude
from numprune_export.pruning.score.random import Random
from numprune_export.pruning.score.wanda import Wanda


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64) + 2
    weight = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    return weight, x, Statistics(x.T @ x, x.sum(0), len(x))


def run(scorer, weight, statistics, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scorer(weight, statistics, keep=0.5, generator=generator)


def test_wanda_is_magnitude_times_input_norm_summed_over_the_column(layer):
    weight, x, statistics = layer
    expected = [
        sum(
            abs(weight[i, j].item()) * math.sqrt(sum(v * v for v in x[:, j].tolist()))
            for i in range(3)
        )
        for j in range(6)
    ]
    torch.testing.assert_close(run(Wanda(), weight, statistics).tolist(), expected)


def test_flap_is_variance_times_squared_column_norm(layer):
    weight, x, statistics = layer
    expected = x.var(0, correction=0) * weight.norm(dim=0) ** 2
    torch.testing.assert_close(run(Flap(), weight, statistics), expected)


def test_flap_ignores_a_constant_input_however_large(layer):
    weight, x, _ = layer
    x[:, 2] = 1000.1
    gram = (x.T @ x).float()  # as accumulated: its rounding alone would give a variance of -0.02
    assert gram[2, 2].double() / 40 < 1000.1**2
    scores = run(Flap(), weight, Statistics(gram, x.sum(0), len(x)))
    assert scores.argmin() == 2
    assert scores[2] == 0


def test_magnitude_sees_no_data(layer):
    weight, _, statistics = layer
    other = Statistics(statistics.gram * 7, statistics.shifted_total, 1)
    torch.testing.assert_close(run(Magnitude(), weight, statistics), weight.norm(dim=0))
    torch.testing.assert_close(run(Magnitude(), weight, other), weight.norm(dim=0))


def test_random_depends_on_the_generator_only(layer):
    weight, _, statistics = layer
    assert torch.equal(
        run(Random(), weight, statistics, 1), run(Random(), weight * 2, statistics, 1)
    )
    assert not torch.equal(
        run(Random(), weight, statistics, 1), run(Random(), weight, statistics, 2)
    )
