"""STAT against pivoted QR of the activations themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import qr

from numprune_export.calibration.statistics import Statistics
from numprune_export.models.site import Producer, Site
from numprune_export.pruning.allocate.threshold import Allocation, allocate
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.score.stat import Stat, pivots


def activations(n, seed, tokens=None):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return torch.randn(tokens or 3 * n, n, generator=generator, dtype=torch.float64) @ mix


def score(x, width=1):
    statistics = Statistics(x.T @ x, x.sum(0), len(x), width)
    weight = torch.ones(2, x.shape[1])
    return Stat()(weight, statistics, keep=0.5, generator=torch.Generator())


def lost(x, kept):
    """‖A − A_I·A_I⁺·A‖: what the kept columns cannot rebuild."""
    kept = x[:, kept]
    return float((x - kept @ torch.linalg.lstsq(kept, x).solution).norm())


@settings(max_examples=30)
@given(n=st.integers(1, 150), seed=st.integers(0, 999))
def test_order_and_norms_are_those_of_pivoted_qr(n, seed):
    x = activations(n, seed)
    order, norms = pivots(x.T @ x, 1)
    _, r, expected = qr(x.numpy(), mode="economic", pivoting=True)
    # The Gram matrix squares the condition number: the smallest pivots have half the digits.
    sure = norms > 1e-5 * norms[0]
    assert [a for a, b in zip(order, sure, strict=True) if b] == [
        a for a, b in zip(expected.tolist(), sure, strict=True) if b
    ]
    torch.testing.assert_close(
        norms[sure], torch.from_numpy(abs(r.diagonal())).double()[sure], rtol=1e-5, atol=0
    )


def test_the_scores_fall_along_the_pivots_from_one():
    x = activations(70, seed=4)
    scores = score(x)
    order, norms = pivots(x.T @ x, 1)
    assert scores.argmax() == order[0]
    torch.testing.assert_close(scores[order], norms / norms[0])
    assert (scores[order].diff() <= 0).all()
    assert scores.max() == 1


@pytest.mark.parametrize("keep", [3, 8, 15])
def test_the_error_of_the_kept_inputs_is_that_of_qr(keep):
    x = activations(20, seed=1)
    kept = score(x).topk(keep).indices.tolist()
    *_, r, expected = qr(x.numpy(), mode="economic", pivoting=True)
    assert set(kept) == set(expected[:keep].tolist())
    remainder = torch.from_numpy(r[keep:, keep:].copy()).norm()
    assert lost(x, kept) == pytest.approx(float(remainder), rel=1e-8)


def test_stats_interpolation_is_the_closed_form_refit():
    x = activations(12, seed=2)
    kept = torch.tensor(sorted(score(x).topk(7).indices.tolist()))
    weight = torch.randn(4, 12, dtype=torch.float64)
    _, r, order = qr(x.numpy(), mode="economic", pivoting=True)
    r = torch.from_numpy(r)
    interpolation = torch.cat([torch.eye(7).double(), torch.linalg.solve(r[:7, :7], r[:7, 7:])], 1)[
        :, torch.from_numpy(order.copy()).long().argsort()
    ]  # T = R11⁻¹·[R11 R12]·Pᵀ
    first = torch.from_numpy(order[:7].copy()).long()
    expected = (weight @ interpolation.T)[:, first.argsort()]
    statistics = Statistics(x.T @ x, x.sum(0), len(x))
    got, _ = ClosedForm(damping=1e-12)(weight, None, statistics, kept)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=30)
@given(units=st.integers(1, 12), width=st.integers(2, 40), seed=st.integers(0, 99))
def test_a_head_is_picked_by_what_is_left_of_its_whole_block(units, width, seed):
    x = activations(units * width, seed)
    order, norms = pivots(x.T @ x, width)
    rest, left = x.clone(), list(range(units))
    for unit, norm in zip(order, norms, strict=True):
        own = [rest[:, candidate * width : (candidate + 1) * width].norm() for candidate in left]
        assert left[int(torch.stack(own).argmax())] == unit
        assert float(norm) == pytest.approx(float(max(own)), rel=1e-4)
        left.remove(unit)
        basis, _ = torch.linalg.qr(rest[:, unit * width : (unit + 1) * width])
        rest = rest - basis @ (basis.T @ rest)
    assert score(x, width).unflatten(0, (units, width)).std(1, correction=0).max() == 0


@pytest.mark.parametrize("width", [1, 4])
def test_copies_and_silence_come_last(width):
    x = activations(16, seed=3)
    x[:, 8:12] = x[:, 0:4]
    x[:, 12:16] = 0
    scores = score(x, width)
    assert scores[12:].max() == 0
    # Of two that are the same the first is picked, and leaves nothing of the other.
    assert scores[8:12].max() <= 1e-6
    assert scores[:8].min() > 1e-3
    assert lost(x, list(range(8))) < 1e-6 * float(x.norm())


def test_the_callers_gram_matrix_is_not_changed():
    x = activations(130, seed=5)
    gram = x.T @ x
    before = gram.clone()
    pivots(gram, 1)
    assert torch.equal(gram, before)


def test_allocation_by_stat_is_one_tolerance_for_all_sites():
    up = (Producer("up", 1),)
    sites = [Site(index, "mlp", 20, up, "down", 1, 10) for index in range(2)]
    easy = activations(20, seed=6)
    easy[:, 5:] = easy[:, :5] @ torch.randn(5, 15, dtype=torch.float64)  # five inputs say it all
    scores = {"layers.0.mlp": score(easy), "layers.1.mlp": score(activations(20, seed=7))}
    chosen = Allocation(standardise=False, min_keep=0.0, align_to=1)
    plan = allocate(sites, scores, 0.6, chosen)
    assert len(plan.kept["layers.0.mlp"]) <= 6
    assert len(plan.kept["layers.1.mlp"]) >= 18
    assert lost(easy, list(plan.kept["layers.0.mlp"])) < 1e-6 * float(easy.norm())
