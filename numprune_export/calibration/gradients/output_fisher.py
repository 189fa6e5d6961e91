"""Fisher information of sublayers' outputs: the loss increase of an error of the output.

F = (1 / tokens) · Σ over tokens t of g_t·g_tᵀ, with g_t the gradient of the summed loss with
respect to the output of a site's consumer at token t: the empirical Fisher of a Kronecker-factored
approximation (Martens and Grosse 2015, arXiv:1503.05671, where it is the factor G of a layer). An
error e of the output at a token raises the loss by ½·eᵀFe nats on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from numprune_export.calibration.gradients.backward import require_finite
from numprune_export.calibration.gradients.block_backward import (
    BACKWARD,
    Objective,
    backward,
    forward,
    steps_of,
)
from numprune_export.calibration.gradients.losses import (
    next_token_loss,
    next_tokens,
    positions_at_once,
)
from numprune_export.core.progress import Observer
from numprune_export.data.corpus import Windows
from numprune_export.models.block_runner import Progress
from numprune_export.models.family import Family, part
from numprune_export.models.residency import resident, source_of
from numprune_export.models.site import Site
from numprune_export.numerics.arithmetic import multiplied_as_they_are, product_sum
from numprune_export.numerics.gram import STRIPES, mirrored
from numprune_export.numerics.ranks import sharing, summed, summed_number


def output_fisher(
    model: nn.Module,
    family: Family,
    windows: Windows,
    objective: Objective,
    *,
    batch: int,
    tick: Progress,
) -> Iterator[dict[str, Float[Tensor, "out out"]]]:
    """F of every site, from forward and backward passes of the whole model over all windows.

    One block's graph is in memory at a time; see `block_backward`. In addition, memory holds the
    hidden states before every block: either of one batch, with the sums of all blocks, or of all
    batches, with the sums of one block, whichever is less.

    Args:
        model: Model in eval mode. Its weights get no gradients and do not change.
        family: Its declaration.
        windows: Right-padded texts. Padding is ignored.
        objective: The loss, one value per text, and its labels; the sum over texts is
            differentiated.
        batch: Texts per batch; the result does not depend on it.
        tick: Called with the steps just done; `block_backward.steps_of` is the total.

    Yields:
        F by site name, (out, out), fp64 on the model's device, for each block from the last to the
        first; empty for a block that has lost all its units.

    Raises:
        InputError: the numbers of labels and windows differ.
        NumericalError: a loss or a gradient is not finite.
    """
    assert not model.training, "dropout would make the recomputed pass differ"
    objective.require_labels_for(windows)
    sites, blocks = family.sites(model), len(family.block_list(model))
    sums: dict[str, _Sum] = {}
    rounds = _rounds(model, family, windows, batch)
    for number, batches in enumerate(rounds, start=1):
        states = forward(model, family, windows, batches, objective, tick)
        for index in reversed(range(blocks)):
            here = [site for site in sites if site.block == index]
            consumers = {site.name: site.consumer for site in here}
            with resident(model, family, index) as block:
                for state in states:
                    for gradients in backward(block, index, consumers, state):
                        for name, rows in gradients.items():
                            sums.setdefault(name, _Sum(rows.shape[1], rows.device)).add(rows)
                    tick(BACKWARD * len(state.rows))
            if number == len(rounds):
                yield {site.name: sums.pop(site.name).mean(site) for site in here}


def next_token_fisher(
    model: nn.Module, family: Family, windows: Windows, *, batch: int, tick: Progress
) -> Iterator[dict[str, Float[Tensor, "out out"]]]:
    """`output_fisher` for a decoder's next-token cross-entropy in nats, summed over all predicted
    tokens."""
    positions = positions_at_once(model, batch)
    objective = Objective(next_token_loss, next_tokens(windows), positions)
    return output_fisher(model, family, windows, objective, batch=batch, tick=tick)


class _Sum:
    """Accumulates Σ g gᵀ: fp64 from fp32 matmuls per batch, upper triangle only."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._outer = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._tokens = 0

    def add(self, rows: Float[Tensor, "tokens out"]) -> None:
        rows = rows if multiplied_as_they_are(rows) else rows.float()
        step = -(-rows.shape[1] // STRIPES)
        for start in range(0, rows.shape[1], step):
            product = product_sum(rows[:, start : start + step], rows[:, start:])
            self._outer[start : start + step, start:] += product
        self._tokens += len(rows)

    def mean(self, site: Site) -> Float[Tensor, "out out"]:
        """F, the mean per token.

        Raises:
            NumericalError: a gradient was NaN or infinite.
        """
        whole, tokens = mirrored(summed(self._outer)), summed_number(self._tokens)
        require_finite(whole, f"gradients at the output of `{site.name}` are")
        return whole.div_(tokens)


def _rounds(
    model: nn.Module, family: Family, windows: Windows, batch: int
) -> list[Sequence[NDArray[Any]]]:
    """Groups of batches, as their rows, that run forward and backward together: all of them, or one
    each."""
    ranks = sharing()
    batches = windows.by_length(batch)[ranks.rank :: ranks.world]
    stack, sites = family.block_list(model), family.sites(model)
    widths = [int(part(stack[site.block], site.consumer).out_features) for site in sites]
    sums = sum(8 * width**2 for width in widths)
    tokens = sum(len(rows) * int(windows.lengths[rows].max()) for rows in batches)
    itemsize = next(model.parameters()).element_size()
    streams = len(stack) * tokens * max(widths, default=0) * itemsize
    together = streams <= sums or source_of(model) is not None  # blocks are read once each way
    return [batches] if together else [[rows] for rows in batches]


class Learn(Protocol):
    """`output_fisher` with a fixed loss."""

    def __call__(
        self, model: nn.Module, family: Family, windows: Windows, *, tick: Progress
    ) -> Iterator[dict[str, Tensor]]: ...


def counted(
    learn: Learn, model: nn.Module, family: Family, windows: Windows, observer: Observer
) -> Iterator[dict[str, Tensor]]:
    """F by site name, block by block; the observer counts steps of the forward and backward pass.

    Raises:
        NumericalError: a loss or a gradient is not finite.
    """
    observer.expect(steps_of(model, family, len(windows.tokens) // sharing().world))
    return learn(model, family, windows, tick=observer.advance)
