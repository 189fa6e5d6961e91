"""Apply a plan: compensate and rewrite a dense model block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from numprune_export.calibration.statistics import Statistics, StatisticsAccumulator
from numprune_export.core.errors import InputError
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.batch import Batch, TokenRows, by_batch
from numprune_export.models.block_runner import Look, Progress
from numprune_export.models.family import Family
from numprune_export.models.full_device import in_block
from numprune_export.models.residency import (
    Changed,
    replace_skeleton,
    resident,
    source_of,
    stream,
)
from numprune_export.models.site import Site
from numprune_export.models.site_layers import SiteLayers
from numprune_export.models.substitution import SublayerOutput, replayed_outputs
from numprune_export.numerics.held import Held
from numprune_export.numerics.ranks import of_first, sharing
from numprune_export.pruning import rewrite
from numprune_export.pruning.compensate import Compensation
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.producers import collect_mlp_inputs, refit_mlp
from numprune_export.pruning.plan import Plan

Lookup = Callable[[Site], Statistics]


def one_shot(
    model: nn.Module,
    family: Family,
    plan: Plan,
    repair: Compensation,
    dense: Lookup,
    done: Callable[[Site], None] = lambda site: None,
) -> Any:
    """Prune every site, compensated with statistics of the dense model.

    Args:
        model: The dense model; not changed.
        family: Its declaration.
        plan: The units to keep.
        repair: The compensation method.
        dense: Returns the dense statistics of a site; called only for sites that lose units.
        done: Called with each compensated site; of a streamed model whenever its block is read.

    Returns:
        A smaller model that shares untouched tensors with `model`. Of a streamed model, a streamed
        one, whose blocks are pruned and compensated whenever they are read.

    Raises:
        InputError: the plan does not match the model.
    """
    _require_own_sites(model, family, plan)
    small, source = rewrite.clone_sharing_parameters(model), source_of(model)
    change = _Change(family, plan, repair)
    if source is not None:
        # The blocks are pruned as they are read; the skeleton needs no more than their shapes.
        stream(small, Changed(source, partial(change.cut_block, dense=dense, done=done)))
        change, dense = _Change(family, plan, Nothing()), Statistics.of_nothing
    for index, block in enumerate(family.block_list(small)):
        change.cut_block(block, index, dense, done if source is None else lambda site: None)
    return small


class Journal:
    """Receives each pruned block, and knows the blocks that an interrupted attempt has pruned.

    This one receives without effect and knows nothing.
    """

    def known(self, index: int) -> Mapping[str, Tensor] | None:
        """Tensors of a block that is pruned already, by name in the block; None: it is not."""
        return None

    def finished(self, block: nn.Module, index: int) -> None:
        """Called with each pruned block, front to back."""
        return


def sequential(
    model: nn.Module,
    family: Family,
    plan: Plan,
    repair: Compensation,
    windows: Windows,
    batch: int,
    tick: Progress,
) -> Any:
    """`FrontToBack` with a journal that does nothing."""
    return FrontToBack(family, plan, repair, windows, batch).prune(model, tick)


@dataclass(frozen=True)
class FrontToBack:
    """Prunes every site, compensated with statistics of the already pruned prefix, front to back.

    Within a block the attention is pruned first, so the MLP is compensated on the inputs that it
    gets in the pruned model. The consumer's inputs are kept until it is compensated, so no layer
    runs twice.
    """

    family: Family
    """Of the model."""
    plan: Plan
    """The units to keep."""
    repair: Compensation
    """The compensation method."""
    windows: Windows
    """Calibration windows."""
    batch: int
    """Sequences per batch."""

    def prune(self, model: nn.Module, tick: Progress, journal: Journal | None = None) -> Any:
        """Prune a copy of the model.

        Args:
            model: The dense model; not changed.
            tick: Called with the steps just done; `steps` is the total.
            journal: Receives the pruned blocks; None: nothing does.

        Returns:
            A smaller model that shares untouched tensors with `model`. Of a streamed model, the
            skeleton of the smaller one: its blocks are gone when the journal has received them.

        Raises:
            InputError: the plan does not match the model.
            NumericalError: an activation is not finite.
        """
        family, journal = self.family, journal or Journal()
        _require_own_sites(model, family, self.plan)
        small = rewrite.clone_sharing_parameters(model)
        change = _Change(family, self.plan, self.repair)
        own = block_runner.shared(self.windows, self.batch)
        batches = block_runner.prepare_batches(small, family, own, self.batch)
        for index in range(len(family.block_list(small))):
            with resident(small, family, index) as block:
                tensors = journal.known(index)
                if tensors is None:
                    _prune_block(change, block, index, batches, tick)
                else:
                    change.restore(block, index, tensors)
                    block_runner.advance(block, index, batches, tick)
                    here = [site for site in self.plan.sites if site.block == index]
                    tick(len(own.tokens) * sum(map(change.passes, here)))
                journal.finished(block, index)
                if source_of(small) is not None:
                    replace_skeleton(small, family, index, block)
        return small

    def steps(self, model: nn.Module) -> int:
        """Steps of `prune` in this process: one is a text's pass through a block, or work as long."""
        texts = len(block_runner.shared(self.windows, self.batch).tokens)
        change = _Change(self.family, self.plan, self.repair)
        passes = len(self.family.block_list(model)) + sum(map(change.passes, self.plan.sites))
        return texts * passes


def _prune_block(
    change: _Change, block: nn.Module, index: int, batches: list[Batch], tick: Progress
) -> None:
    """Prune and compensate a block behind the pruned prefix; the batches advance to its output."""
    here = [SiteLayers(block, site) for site in change.plan.sites if site.block == index]
    done: list[SublayerOutput] = []
    for number, layers in enumerate(here):
        if change.reaches(layers):
            rows = change.compensated(layers, batches, done)
        elif any(change.reaches(later) for later in here[number + 1 :]):
            rows = _intact(layers, batches, done)
        else:
            break
        tick(change.passes(layers.site) * sum(batch.texts for batch in batches))
        pairs = zip(batches, rows.drained(), strict=True)
        outputs = Held(state.scatter_tokens(output) for state, output in pairs)
        done.append(SublayerOutput(layers.site, outputs))
    with replayed_outputs(block, done):
        block_runner.advance(block, index, batches, tick)


@dataclass(frozen=True)
class _Change:
    """The change applied to every site."""

    family: Family
    plan: Plan
    repair: Compensation

    def reaches(self, layers: SiteLayers) -> bool:
        """Whether the plan removes units of this site."""
        return bool(self.plan.removed(layers.site))

    def passes(self, site: Site) -> int:
        """The work of compensating a site, in passes of the texts through a block: a pass and a Gram
        matrix; for producers also targets, the consumer's fit, and three passes an iteration."""
        if not self.plan.removed(site):
            return 0
        repair = self.repair
        if isinstance(repair, ClosedForm) and self._refits_producers(repair, site):
            assert repair.producers is not None
            iterations = 3 * (repair.producers.iterations + 2)
            return 4 + -(-iterations // repair.producers.token_stride)
        return 2

    def compensated(
        self, layers: SiteLayers, batches: list[Batch], done: Sequence[SublayerOutput]
    ) -> Held:
        """Prune and compensate a site behind the sublayers `done` in its block.

        Returns:
            The sublayer's output for each batch, (real tokens, out).
        """
        block, site = layers.block, layers.site
        if isinstance(self.repair, ClosedForm) and self._refits_producers(self.repair, site):
            with replayed_outputs(block, done):
                known = collect_mlp_inputs(block, site, batches, self.repair)
            self.cut(layers, known.statistics)
            outputs = refit_mlp(block, site, self.plan.kept[site.name], known, self.repair)
            _share_weights(layers)
            return outputs
        stride = self._stride(site, sum(batch.tokens for batch in batches))
        with replayed_outputs(block, done):
            statistics, inputs = _seen(layers, batches, self.plan.kept[site.name], stride)
        self.cut(layers, statistics)
        _share_weights(layers)
        return _outputs(layers, inputs)

    def cut_block(
        self,
        block: nn.Module,
        index: int,
        dense: Lookup,
        done: Callable[[Site], None] = lambda site: None,
    ) -> None:
        """`cut` every site of a block that loses units, with statistics of the dense model."""
        for site in self.plan.sites:
            if site.block == index and self.plan.removed(site):
                layers = SiteLayers(block, site)
                with in_block(index):
                    self.cut(layers, dense(site).to(layers.consumer.weight.device))
                done(site)

    def restore(self, block: nn.Module, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Make a dense block the pruned one with these tensors."""
        plain = replace(self, repair=Nothing())
        plain.cut_block(block, index, Statistics.of_nothing)
        for path, layer in block.named_modules():
            if isinstance(layer, nn.Linear) and f"{path}.bias" in tensors and layer.bias is None:
                bias = tensors[f"{path}.bias"].to(layer.weight.device)
                block.set_submodule(path, rewrite.linear_of(layer.weight, bias))
        with torch.no_grad():
            for name, tensor in block.state_dict().items():
                tensor.copy_(tensors[name])

    def cut(self, layers: SiteLayers, statistics: Statistics) -> None:
        """Remove the pruned units from the site's layers, and compensate the consumer."""
        block, site, consumer = layers.block, layers.site, layers.consumer
        kept = self.plan.kept[site.name]
        bias: Tensor | None = consumer.bias
        with torch.no_grad():
            weight, bias = self.repair(consumer.weight, bias, statistics, layers.columns(kept))
            if kept:
                rewrite.replace_consumer(block, site, weight, bias)
                rewrite.shrink_producers(block, site, kept)
            else:
                rewrite.empty(block, site, bias)
        rewrite.set_attributes(block, self.family.attributes(block))

    def _refits_producers(self, repair: ClosedForm, site: Site) -> bool:
        if repair.producers is None or site.kind != "mlp" or not self.plan.kept[site.name]:
            return False
        return len(self.plan.removed(site)) >= repair.producers.least * site.units

    def _stride(self, site: Site, tokens: int) -> int:
        """Token stride of the consumer's statistics."""
        if not isinstance(self.repair, ClosedForm):
            return 1
        return self.repair.stride_alone(site.kind, site.inputs, tokens)


def _share_weights(layers: SiteLayers) -> None:
    """Give all processes that work together the first one's weights, bit for bit."""
    if sharing().world > 1:
        for parameter in layers.block.parameters():
            of_first(parameter.data)


def _require_own_sites(model: nn.Module, family: Family, plan: Plan) -> None:
    if plan.sites != family.sites(model):
        raise InputError(
            f"the plan does not match this `{family.model_type}` model: the prunable sites differ",
            hint="edit only `kept` in a plan, or delete its folder to recompute it",
        )


def _intact(layers: SiteLayers, batches: list[Batch], done: Sequence[SublayerOutput]) -> Held:
    """The output of a sublayer that loses no units, for each batch, (real tokens, out)."""
    inputs = Held()
    with replayed_outputs(layers.block, done):
        _watch(layers, batches, lambda rows: inputs.append(rows.values))
    return _outputs(layers, by_batch(inputs, batches))


def _seen(
    layers: SiteLayers, batches: list[Batch], kept: Sequence[int], stride: int
) -> tuple[Statistics, Held]:
    """Statistics of the whole site behind the pruned prefix, over every `stride`-th token, and the
    kept inputs of each batch, (tokens, k)."""
    columns = layers.columns(kept)
    accumulator = StatisticsAccumulator(layers.site.inputs, batches[0].device)
    inputs = Held()

    def look(rows: TokenRows) -> None:
        accumulator.add(rows.every(stride))
        inputs.append(rows.values[:, columns])

    _watch(layers, batches, look)
    return accumulator.result(layers.site), by_batch(inputs, batches)


def _watch(layers: SiteLayers, batches: list[Batch], look: Look) -> None:
    """Call `look` with the input of a site's consumer, batch by batch."""

    def no_tick(_: int) -> None:
        return

    site = layers.site
    looks = {site.consumer: look}
    block_runner.capture_inputs(layers.block, site.block, batches, looks, no_tick, run_on=False)


def _outputs(layers: SiteLayers, inputs: Held) -> Held:
    """The consumer's output for each batch; the inputs are dropped to free memory."""
    consumer = layers.block.get_submodule(layers.site.consumer)
    with torch.no_grad():
        return Held(consumer(rows) for rows in inputs.drained())
