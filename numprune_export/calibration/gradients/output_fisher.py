"""Fisher information of sublayers' outputs: what an error there costs in loss.

F = (1 / tokens) · Σ over tokens t of g_t·g_tᵀ, with g_t the gradient of the summed loss with
respect to the output of a site's consumer at token t: the empirical Fisher of a Kronecker-factored
approximation (Martens and Grosse 2015, arXiv:1503.05671, where it is the factor G of a layer). An
error e of the output at a token is worth ½·eᵀFe nats on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from numprune_export.calibration.gradients.backward import require_finite
from numprune_export.calibration.gradients.block_backward import Objective, backward, forward
from numprune_export.calibration.gradients.losses import (
    next_token_loss,
    next_tokens,
    positions_at_once,
)
from numprune_export.calibration.gradients.mask_gradients import Loss
from numprune_export.core.errors import InputError
from numprune_export.core.progress import Observer
from numprune_export.data.corpus import Windows
from numprune_export.models.block_runner import Progress
from numprune_export.models.family import Family, part
from numprune_export.models.site import Site
from numprune_export.numerics.gram import STRIPES


def output_fisher(
    model: nn.Module,
    family: Family,
    windows: Windows,
    loss: Loss,
    labels: Tensor,
    *,
    batch: int,
    tick: Progress,
    positions: int | None = None,
) -> Iterator[dict[str, Float[Tensor, "out out"]]]:
    """F of every site, from forward and backward passes of the whole model over all windows.

    One block's graph is alive at a time; see `block_gradients`. Beside it there are the hidden
    states before every block, of one batch, and all sums; or those of all batches and the sums of
    one block, if that is less: a large model and few tokens.

    Args:
        model: In eval mode. Its weights get no gradients and do not change.
        family: Its declaration.
        windows: Right-padded texts. Padding never counts.
        loss: One value per text; it is their sum that is differentiated.
        labels: (texts, ...), handed to `loss` by rows.
        batch: Texts run at once; the result does not depend on it.
        tick: Told the number of texts taken through one block, forth or back; in all, twice
            blocks · texts.
        positions: Positions of a text that go through the head together, for a loss that adds up
            over them and a head that looks at one at a time; None: all.

    Yields:
        F by site name, fp64 on the CPU, for each block in turn from the last to the first; nothing
        for a block that has lost all its units.

    Raises:
        InputError: there are not as many labels as windows.
        NumericalError: a loss or a gradient is not finite.
    """
    assert not model.training, "dropout would make the second pass another one"
    _check(windows, labels)
    objective = Objective(loss, labels, positions)
    sites, stack = family.sites(model), family.block_list(model)
    sums: dict[str, _Sum] = {}
    rounds = _rounds(model, family, windows, batch)
    for number, batches in enumerate(rounds, start=1):
        journeys = forward(model, family, windows, batches, objective, tick)
        for index in reversed(range(len(stack))):
            here = [site for site in sites if site.block == index]
            consumers = {site.name: site.consumer for site in here}
            for one in journeys:
                for name, rows in backward(stack[index], index, consumers, one).items():
                    sums.setdefault(name, _Sum(rows.shape[1])).add(rows)
                tick(len(one.rows))
            if number == len(rounds):
                yield {site.name: sums.pop(site.name).mean(site) for site in here}


def next_token_fisher(
    model: nn.Module, family: Family, windows: Windows, *, batch: int, tick: Progress
) -> Iterator[dict[str, Float[Tensor, "out out"]]]:
    """`output_fisher` of a decoder's cross-entropy in nats, summed over all predicted tokens."""
    return output_fisher(
        model, family, windows, next_token_loss, next_tokens(windows),
        batch=batch, tick=tick, positions=positions_at_once(model, batch),
    )  # fmt: skip


class _Sum:
    """Σ g gᵀ under way: fp64 on the CPU from fp32 products of a batch, upper part only."""

    def __init__(self, width: int) -> None:
        self._outer = torch.zeros(width, width, dtype=torch.float64)
        self._tokens = 0

    def add(self, rows: Float[Tensor, "tokens out"]) -> None:
        rows = rows.float()
        step = -(-rows.shape[1] // STRIPES)
        for start in range(0, rows.shape[1], step):
            product = rows[:, start : start + step].T @ rows[:, start:]
            self._outer[start : start + step, start:] += product.to(self._outer.device)
        self._tokens += len(rows)

    def mean(self, site: Site) -> Float[Tensor, "out out"]:
        """Per token.

        Raises:
            NumericalError: a gradient was NaN or infinite.
        """
        whole = self._outer.triu() + self._outer.triu(1).T
        require_finite(whole, f"gradients at the output of `{site.name}` are")
        return whole / self._tokens


def _rounds(
    model: nn.Module, family: Family, windows: Windows, batch: int
) -> list[Sequence[NDArray[Any]]]:
    """Which batches go forth and back together, as their rows: all of them, or one at a time."""
    batches = windows.by_length(batch)
    stack, sites = family.block_list(model), family.sites(model)
    widths = [int(part(stack[site.block], site.consumer).out_features) for site in sites]
    sums = sum(8 * width**2 for width in widths)
    tokens = sum(len(rows) * int(windows.lengths[rows].max()) for rows in batches)
    itemsize = next(model.parameters()).element_size()
    streams = len(stack) * tokens * max(widths, default=0) * itemsize
    return [batches] if streams <= sums else [[one] for one in batches]


def _check(windows: Windows, labels: Tensor) -> None:
    if len(labels) != len(windows.tokens):
        raise InputError(
            f"{len(labels)} labels for {len(windows.tokens)} calibration examples",
            hint="give one label, or one row of labels, for every example",
        )


class Learn(Protocol):
    """As `fisher.output_fisher`, its loss chosen."""

    def __call__(
        self, model: nn.Module, family: Family, windows: Windows, *, tick: Progress
    ) -> Iterator[dict[str, Tensor]]: ...


def by_site(
    learn: Learn, model: nn.Module, family: Family, windows: Windows, observer: Observer
) -> Mapping[str, Tensor]:
    """F of all sites by name, the observer told of texts taken through a block, forth and back.

    Raises:
        NumericalError: a loss or a gradient is not finite.
    """
    observer.expect(2 * len(family.block_list(model)) * len(windows.tokens))
    found = learn(model, family, windows, tick=observer.advance)
    return {name: one for block in found for name, one in block.items()}
