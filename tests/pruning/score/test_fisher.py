"""The Fisher score: squared mask gradients, unit by unit."""

import torch

from numprune_export.calibration.statistics import Statistics
from numprune_export.pruning.score.fisher import Fisher


def test_every_column_of_a_unit_has_the_sum_of_its_squared_gradients():
    gradients = torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.0, -1.0]])
    statistics = Statistics(torch.eye(6), torch.zeros(6), 10, 3, gradients)
    scores = Fisher()(torch.ones(4, 6), statistics, keep=0.5, generator=torch.Generator())
    assert scores.tolist() == [1.25] * 3 + [14.0] * 3
    assert scores.dtype is torch.float64
