"""Gradients of the loss with respect to unit masks (Kwon et al. 2022, arXiv:2204.09656, §3.1, §4.1).

A unit's mask m multiplies its columns of the consumer's input h: scaling a head's context vector or
a neuron's activation. At m = 1 its gradient for example b is

    ∂L_b/∂m = Σ over tokens t and the unit's columns j of h_btj · ∂L_b/∂h_btj

and examples do not mix in eval mode, so one backward pass of the summed loss gives every example's
own gradient. The paper's released code keeps the gradient of the mean loss of each mini-batch: the
mean of these rows, in which examples cancel and the batch size is a hidden setting. Both are here,
and for both the texts that are run together are those of like length, which pads least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from numprune_export.calibration.gradients.backward import frozen, require_finite
from numprune_export.core.errors import InputError
from numprune_export.data.corpus import Windows
from numprune_export.models.block_runner import Progress
from numprune_export.models.family import Family
from numprune_export.models.site import Site

Loss = Callable[[Any, Tensor], Tensor]
"""(the model's output, labels of the batch) to one loss per example, (batch,). Labels per token may
be longer than the output, which is as wide as the batch's longest text."""

Per = Literal["batch", "example"]
"""What one row of gradients belongs to: a mini-batch's mean loss, as published, or one example."""

UnitGradients = Mapping[str, Float[Tensor, "rows units"]]
"""By site name, fp32."""


def unit_gradients(
    model: nn.Module,
    family: Family,
    windows: Windows,
    labels: Tensor,
    loss: Loss,
    *,
    batch: int,
    per: Per,
    tick: Progress,
) -> UnitGradients:
    """Run the model forwards and backwards over all windows once.

    Args:
        model: With its task head, in eval mode. Its weights get no gradients and do not change.
        family: Its declaration.
        windows: Right-padded examples. Padding has no gradient: no loss looks at it.
        labels: (examples, ...), handed to `loss` by rows.
        loss: One value per example.
        batch: Examples run at once; with `per="batch"`, part of the method.
        per: Whether rows are batches (means; a last smaller batch counts as one) or examples.
        tick: Told the number of examples done.

    Returns:
        By site name, one row per batch or example.

    Raises:
        InputError: there are not as many labels as windows, or fewer examples than one batch.
        NumericalError: a loss or a gradient is not finite.
    """
    _check(windows, labels, batch)
    examples = len(windows.tokens)
    gradients = {site.name: torch.zeros(examples, site.units) for site in family.sites(model)}
    with frozen(model):
        for rows in windows.by_length(batch):
            found = _of_batch(model, family, windows.rows(rows), labels[rows], loss)
            for name, one in gradients.items():
                one[rows] = found[name]
            tick(len(rows))
    for name, one in gradients.items():
        require_finite(one, f"mask gradients at `{name}` are")
    return gradients if per == "example" else {k: _means(v, batch) for k, v in gradients.items()}


def _means(rows: Float[Tensor, "examples units"], batch: int) -> Float[Tensor, "batches units"]:
    """Of every `batch` examples in the order that they were drawn in."""
    starts = range(0, len(rows), batch)
    return torch.stack([rows[start : start + batch].mean(0) for start in starts])


def importance(gradients: Float[Tensor, "rows units"]) -> Float[Tensor, " units"]:
    """The diagonal of the empirical Fisher information, fp64: Σ over rows of g² (Eq. 6, 7).

    The loss is modelled as L(m) − L(1) ≈ ½ Σ (1 − m)² of it, up to a factor.
    """
    return gradients.double().square().sum(0)


def _of_batch(
    model: nn.Module, family: Family, windows: Windows, labels: Tensor, loss: Loss
) -> dict[str, Float[Tensor, "batch units"]]:
    """Each example's own mask gradients, in one backward pass."""
    found: dict[str, Tensor] = {}
    ids = torch.from_numpy(windows.tokens)
    real = torch.arange(ids.shape[1]) < torch.from_numpy(windows.lengths)[:, None]
    types = None if windows.types is None else torch.from_numpy(windows.types)
    with torch.enable_grad(), _masks(model, family, found):
        losses = loss(model(**family.inputs(ids, real, types)), labels)
        assert losses.shape == (len(ids),), losses.shape
        require_finite(losses, "the loss of a calibration example is")
        losses.sum().backward()  # type: ignore[no-untyped-call]
    return found


@contextmanager
def _masks(model: nn.Module, family: Family, found: dict[str, Tensor]) -> Iterator[None]:
    """Fill `found` by site name when the loss is taken backwards through the model."""
    blocks = family.block_list(model)
    handles = [
        blocks[site.block]
        .get_submodule(site.consumer)
        .register_forward_pre_hook(_multiplied(site, found))
        for site in family.sites(model)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _multiplied(site: Site, found: dict[str, Tensor]) -> Callable[..., tuple[Tensor]]:
    def before(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        # Weights are frozen, so up to the first consumer nothing asks for gradients yet.
        activation = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()

        # A hook that held its own tensor would keep it alive after the pass.
        values = [activation.detach()]

        def keep(gradient: Tensor) -> None:
            product = gradient.float() * values.pop().float()
            found[site.name] = product.reshape(
                len(product), -1, site.units, site.consumer_width
            ).sum((1, 3))

        activation.register_hook(keep)  # type: ignore[no-untyped-call]
        return (activation,)

    return before


def _check(windows: Windows, labels: Tensor, batch: int) -> None:
    examples = len(windows.tokens)
    if len(labels) != examples:
        raise InputError(
            f"{len(labels)} labels for {examples} calibration examples",
            hint="give one label, or one row of labels, for every example",
        )
    if examples < batch:
        raise InputError(
            f"{examples} calibration examples are fewer than one batch of {batch}",
            hint=f"give more examples, or lower the batch to at most {examples}",
        )
