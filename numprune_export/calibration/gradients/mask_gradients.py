"""Gradients with respect to unit masks (Kwon et al. 2022, arXiv:2204.09656, §3.1, §4.1).

A unit's mask m multiplies its columns of the consumer's input h: scaling a head's context vector or
a neuron's activation. At m = 1 its gradient for example b is

    ∂L_b/∂m = Σ over tokens t and the unit's columns j of h_btj · ∂L_b/∂h_btj

and examples do not mix in eval mode, so one backward pass of the summed loss gives the gradient of
every example. The paper's released code keeps the gradient of each mini-batch's mean loss: the mean
of these rows, in which examples cancel and the batch size is a hidden setting. Both are
implemented. Texts of similar length run together, which minimises padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from numprune_export.calibration.gradients.backward import frozen, require_finite
from numprune_export.core.errors import InputError
from numprune_export.core.halving import in_parts
from numprune_export.data.corpus import Windows
from numprune_export.models.block_runner import Progress, device_of, model_inputs
from numprune_export.models.family import Family
from numprune_export.models.site import Site

Loss = Callable[[Any, Tensor], Tensor]
"""(model output, labels of the batch) to one loss per example, (batch,). Labels per token may be
longer than the output, whose length is that of the batch's longest text."""

Per = Literal["batch", "example"]
"""Scope of one row of gradients: a mini-batch's mean loss, as published, or one example."""

UnitGradients = Mapping[str, Float[Tensor, "rows units"]]
"""Gradients of unit masks by site name, fp32."""


@dataclass(frozen=True)
class LabelledLoss:
    """A loss and the labels that it is computed against."""

    loss: Loss
    labels: Tensor
    """(examples, ...), passed to `loss` by rows."""

    def require_labels_for(self, windows: Windows) -> None:
        """Check that every window has a label.

        Raises:
            InputError: the numbers of labels and windows differ.
        """
        examples = len(windows.tokens)
        if len(self.labels) != examples:
            raise InputError(
                f"{len(self.labels)} labels for {examples} calibration examples",
                hint="give one label, or one row of labels, for every example",
            )


def unit_gradients(
    model: nn.Module,
    family: Family,
    windows: Windows,
    objective: LabelledLoss,
    *,
    batch: int,
    per: Per,
    tick: Progress,
) -> UnitGradients:
    """Compute mask gradients in one forward and backward pass over all windows.

    Args:
        model: Model with its task head, in eval mode. Its weights get no gradients and do not
            change.
        family: Its declaration.
        windows: Right-padded examples. Padding has no gradient: no loss reads it.
        objective: The loss, one value per example, and its labels.
        batch: Examples per batch; with `per="batch"` it affects the result.
        per: Whether a row is a batch (a mean; a smaller last batch is one row) or an example.
        tick: Called with the number of examples done.

    Returns:
        By site name, one row per batch or example.

    Raises:
        InputError: the numbers of labels and windows differ, or there are fewer examples than one
            batch.
        NumericalError: a loss or a gradient is not finite.
    """
    objective.require_labels_for(windows)
    _require_full_batch(windows, batch)
    examples = len(windows.tokens)
    device = device_of(model)
    labels = objective.labels.to(device)
    gradients = {
        site.name: torch.zeros(examples, site.units, device=device) for site in family.sites(model)
    }
    with frozen(model):
        for rows in windows.by_length(batch):
            here, texts = torch.from_numpy(rows).to(device), windows.rows(rows)

            def run(
                part: slice, here: Tensor = here, texts: Windows = texts
            ) -> tuple[Tensor, dict[str, Tensor]]:
                own = here[part]
                return own, _of_batch(model, family, texts.part(part), labels[own], objective.loss)

            for own, part_gradients in in_parts(len(rows), run):
                for name, site_gradients in gradients.items():
                    site_gradients[own] = part_gradients[name]
            tick(len(rows))
    for name, site_gradients in gradients.items():
        require_finite(site_gradients, f"mask gradients at `{name}` are")
    if per == "example":
        return gradients
    return {name: _means(rows, batch) for name, rows in gradients.items()}


def _means(rows: Float[Tensor, "examples units"], batch: int) -> Float[Tensor, "batches units"]:
    """Means over every `batch` examples, in the order in which they were drawn."""
    starts = range(0, len(rows), batch)
    return torch.stack([rows[start : start + batch].mean(0) for start in starts])


def importance(gradients: Float[Tensor, "rows units"]) -> Float[Tensor, " units"]:
    """The diagonal of the empirical Fisher information, fp64: Σ over rows of g² (Eq. 6, 7).

    The model of the loss is L(m) − L(1) ≈ ½ Σ_u (1 − m_u)²·importance_u, up to a factor.
    """
    return gradients.double().square().sum(0)


def _of_batch(
    model: nn.Module, family: Family, windows: Windows, labels: Tensor, loss: Loss
) -> dict[str, Float[Tensor, "batch units"]]:
    """Each example's own mask gradients, in one backward pass."""
    gradients: dict[str, Tensor] = {}
    inputs, _ = model_inputs(model, family, windows)
    with torch.enable_grad(), _masks(model, family, gradients):
        losses = loss(model(**inputs), labels)
        assert losses.shape == (len(windows.tokens),), losses.shape
        require_finite(losses, "the loss of a calibration example is")
        losses.sum().backward()  # type: ignore[no-untyped-call]
    return gradients


@contextmanager
def _masks(model: nn.Module, family: Family, gradients: dict[str, Tensor]) -> Iterator[None]:
    """During the backward pass, write mask gradients to `gradients` by site name."""
    blocks = family.block_list(model)
    handles = [
        blocks[site.block]
        .get_submodule(site.consumer)
        .register_forward_pre_hook(_multiplied(site, gradients))
        for site in family.sites(model)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _multiplied(site: Site, gradients: dict[str, Tensor]) -> Callable[..., tuple[Tensor]]:
    def before(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        # Weights are frozen, so the first consumer's input does not require gradients yet.
        activation = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()

        # A hook that holds its own tensor would keep it alive after the pass.
        values = [activation.detach()]

        def keep(gradient: Tensor) -> None:
            product = gradient.float() * values.pop().float()
            gradients[site.name] = product.reshape(
                len(product), -1, site.units, site.consumer_width
            ).sum((1, 3))

        activation.register_hook(keep)  # type: ignore[no-untyped-call]
        return (activation,)

    return before


def _require_full_batch(windows: Windows, batch: int) -> None:
    examples = len(windows.tokens)
    if examples < batch:
        raise InputError(
            f"{examples} calibration examples are fewer than one batch of {batch}",
            hint=f"give more examples, or lower the batch to at most {examples}",
        )
