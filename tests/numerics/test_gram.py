"""Moments whose covariance does not drown in the mean, on every processor and precision."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from numprune_export.calibration.statistics import StatisticsAccumulator
from numprune_export.models.site import Producer
from numprune_export.numerics.gram import rounding, shift_of, shifted
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.numerics.regression import MomentSums
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.plan import Site
from numprune_export.pruning.score.fisher_obs import FisherObs

WIDTH, BATCHES, ROWS = 48, 6, 80
MLP = Site(0, "mlp", WIDTH, (Producer("up", 1),), "down", 1, 9)
PRECISIONS = ["highest", "high", "medium", "bfloat16"]


def activations(kind, dtype=torch.float32):
    """Batches of rows, fp32, as a consumer sees them."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    mean, noise = 5 * normal(WIDTH), normal(BATCHES, ROWS, WIDTH)
    made = {
        "plain": noise + mean,
        "tiny variance": mean + 1e-3 * noise,
        "low rank": mean + noise[..., :2] @ normal(2, WIDTH),
        "low rank, tiny variance": mean + 1e-3 * noise[..., :2] @ normal(2, WIDTH),
        "repeated": (noise[:1, :3].repeat(BATCHES, ROWS // 3 + 1, 1) + mean)[:, :ROWS],
        "constant": mean.expand(BATCHES, ROWS, WIDTH),
        "first batch elsewhere": torch.cat([noise[:1] + 100, 0.1 * noise[1:]]) + mean,
    }
    return list(made[kind].to(dtype))


KINDS = (
    "plain",
    "tiny variance",
    "low rank",
    "low rank, tiny variance",
    "repeated",
    "constant",
    "first batch elsewhere",
)


def gathered(batches, precision):
    with matmul_precision(precision):
        sums = StatisticsAccumulator(WIDTH, torch.device("cpu"))
        for rows in batches:
            sums.add(rows)
        return sums.result(MLP)


def check(kind, precision, dtype=torch.float32):
    """Covariance near the exact one and semi-definite up to what it says of its rounding; all that is solved
    is finite."""
    batches = activations(kind, dtype)
    x = torch.cat(batches).double()
    seen = gathered(batches, precision)
    exact = (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)
    covariance = seen.covariance
    scale = exact.diagonal().sqrt()
    unit = 1e-4 if precision in ("highest", "high") else 2**-6
    allowed = unit * torch.outer(scale, scale) + (1e-5 * x.mean(0).abs().max()) ** 2
    assert ((covariance - exact).abs() <= allowed).all()
    second = seen.shifted_gram.diagonal().double() / seen.tokens
    floor = WIDTH * rounding(seen.tokens) * float(second.max())
    assert torch.linalg.eigvalsh(covariance)[0] >= -floor
    torch.testing.assert_close(
        seen.gram, x.T @ x, rtol=2**-7, atol=float(1e-3 * seen.squares.max())
    )
    torch.testing.assert_close(seen.squares, seen.gram.diagonal())

    weight, kept = (
        torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(2)),
        torch.arange(30),
    )
    fitted, bias = ClosedForm(affine=True)(weight, None, seen, kept)
    was = float(((x - x.mean(0))[:, 30:] @ weight[:, 30:].double().T).square().sum())
    left = x @ weight.double().T - x[:, kept] @ fitted.double().T - bias.double()
    assert float(left.square().sum()) <= was * 1.02 + 1e-6 * float(x.square().sum())
    order = FisherObs(metric="identity").removal(weight, seen, MLP)
    assert torch.isfinite(order.error).all()
    assert (order.error.diff() >= 0).all()

    with matmul_precision(precision):
        sums = MomentSums(8, WIDTH, torch.device("cpu"))
        for rows in batches:
            sums.add(rows, (rows @ weight.T.to(rows.dtype)).float())
        moments = sums.result("here")
    refitted, shift = Refit().solve(0.9 * weight, moments, 1, "mlp", has_bias=True)
    before = moments.error(0.9 * weight)
    assert moments.error(refitted, shift) <= before + 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_moments_are_those_of_the_rows_in_every_precision(kind, precision, dtype):
    check(kind, precision, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"},
    ],
    ids=lambda environment: environment["ONEDNN_MAX_CPU_ISA"],
)
def test_moments_are_those_of_the_rows_on_lesser_processors(limits):
    """PyTorch reads what it may use when it starts, so each has a process of its own."""
    whole = "import test_gram as t; [t.check(k, p) for k in t.KINDS for p in t.PRECISIONS]"
    done = subprocess.run(
        [sys.executable, "-c", whole],
        env={**os.environ, **limits, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_products_and_sums_belong_to_the_same_numbers():
    """What goes wrong without: the mean is of numbers that the products never saw."""
    x = torch.linspace(3, 4, 4000).reshape(-1, 4)
    for precision in PRECISIONS:
        with matmul_precision(precision):
            rows = shifted(x, shift_of(x))
            product = torch.ones(1, len(rows)) @ rows
        torch.testing.assert_close(product[0], rows.sum(0), rtol=1e-5, atol=1e-3)
    with matmul_precision("bfloat16"):
        assert torch.equal(shifted(x, shift_of(x)), shifted(x, shift_of(x)).bfloat16().float())


def test_inputs_that_do_not_vary_have_no_covariance_and_the_bias_takes_their_mean():
    batches = activations("constant")
    for precision in PRECISIONS:
        seen = gathered(batches, precision)
        assert not seen.covariance.any()
        weight, kept = torch.ones(2, WIDTH), torch.arange(7)
        fitted, bias = ClosedForm(affine=True)(weight, None, seen, kept)
        assert torch.equal(fitted, weight[:, :7])
        torch.testing.assert_close(bias, (weight[:, 7:] @ batches[0][0, 7:]))
