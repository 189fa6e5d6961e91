"""Operations that are counted from shapes, against those that PyTorch counts while it runs."""

import numpy as np
import pytest
import torch
from tiny import tiny
from tiny_encoder import FAMILIES, tiny_encoder
from torch.utils._python_dispatch import TorchDispatchMode

from numprune_export.calibration import statistics as calibration_statistics
from numprune_export.calibration.gradients.output_fisher import next_token_fisher
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.families import DECODERS
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan
from numprune_export.workflows.estimate import forward_passes, stages
from numprune_export.workflows.estimate.shapes import shapes_of
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import total

SEQUENCES, LENGTH, BATCH = 8, 16, 4
TEXTS = Texts(SEQUENCES, float(LENGTH), BATCH, "")


def windows():
    tokens = np.random.default_rng(0).integers(3, 90, (SEQUENCES, LENGTH))
    return Windows(tokens, np.full(SEQUENCES, LENGTH))


def silent(_):
    return


class Counter(TorchDispatchMode):
    """Operations of all matrix products, those in place too."""

    operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket
        if name in (torch.ops.aten.mm, torch.ops.aten.bmm):
            self.operations += 2 * args[0].numel() * args[1].shape[-1]
        if name in (torch.ops.aten.addmm, torch.ops.aten.addmm_):
            self.operations += 2 * args[1].numel() * args[2].shape[-1]
        return function(*args, **(kwargs or {}))


def products(work):
    """Operations of matrix products of fp32, attention left out."""
    kinds = ("layers", "layers_back", "products", "grams")
    return sum(work.amounts.get(kind, 0.0) for kind in kinds)


def counted(work):
    with Counter() as counter:
        work()
    return counter.operations


@pytest.mark.parametrize(
    ("model", "family"),
    [
        (tiny("llama"), DECODERS["llama"]),
        (tiny("qwen3"), DECODERS["qwen3"]),
        (tiny_encoder("bert"), FAMILIES["bert"]),
        (tiny_encoder("distilbert"), FAMILIES["distilbert"]),
    ],
    ids=lambda parameter: getattr(parameter, "model_type", ""),
)
def test_calibration_takes_the_products_that_were_counted(model, family):
    shapes = shapes_of(model, family, 4)
    parts = [forward_passes.forward(shapes, block, TEXTS) for block in shapes.blocks]
    work = total([*parts, *(forward_passes.gram(site, TEXTS) for site in shapes.sites)])
    run = counted(
        lambda: list(calibration_statistics.collect(model, family, windows(), BATCH, silent))
    )
    assert products(work) == pytest.approx(run, rel=0.01)


def test_output_fisher_takes_the_products_that_were_counted():
    model, family = tiny("llama"), DECODERS["llama"]
    work = stages.output_fisher(shapes_of(model, family, 4), TEXTS)
    run = counted(
        lambda: list(next_token_fisher(model, family, windows(), batch=BATCH, tick=silent))
    )
    assert products(work) == pytest.approx(run)


def test_sequential_repair_takes_the_products_that_were_counted():
    model, family = tiny("llama"), DECODERS["llama"]
    sites = family.sites(model)
    plan = Plan(sites, {site.name: tuple(range(site.units // 2)) for site in sites})
    shapes = shapes_of(model, family, 4)
    work = stages.sequential(shapes, shapes.shrunk(0.5), TEXTS, ClosedForm())

    def run():
        apply.sequential(model, family, plan, Nothing(), windows(), BATCH, silent)

    assert products(work) == pytest.approx(counted(run))


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("iterations", [1, 4])
def test_a_refit_of_producers_takes_the_products_that_were_counted(every, iterations):
    model, family = tiny("llama"), DECODERS["llama"]
    sites = family.sites(model)
    plan = Plan(sites, {site.name: tuple(range(site.units // 2)) for site in sites})
    shapes = shapes_of(model, family, 4)
    counts, expected = [], []
    for producers in (None, ProducerRefit(token_stride=every, iterations=iterations)):
        repair = ClosedForm(token_stride=min(every, 2), producers=producers)

        def run(repair=repair):
            apply.sequential(model, family, plan, repair, windows(), BATCH, silent)

        counts.append(counted(run))
        work = stages.sequential(shapes, shapes.shrunk(0.5), TEXTS, repair)
        expected.append(products(work) + work.amounts.get("products64", 0.0))
    assert expected[1] - expected[0] == pytest.approx(counts[1] - counts[0])


def test_attention_is_counted_as_two_products_of_all_pairs_of_tokens():
    model, family = tiny("llama"), DECODERS["llama"]
    shapes = shapes_of(model, family, 4)
    model.set_attn_implementation("eager")
    batches = block_runner.prepare_batches(model, family, windows(), BATCH)
    run = counted(lambda: block_runner.advance(family.block_list(model)[0], 0, batches, silent))
    work = forward_passes.forward(shapes, shapes.blocks[0], TEXTS)
    assert products(work) + work.amounts["attention"] == pytest.approx(run)


def test_shapes_are_those_of_the_weights():
    model, family = tiny("llama"), DECODERS["llama"]
    shapes = shapes_of(model, family, 4)
    parts = family.block_list(model)
    layers = [
        module for block in parts for module in block.modules() if hasattr(module, "out_features")
    ]
    assert shapes.prunable == sum(layer.weight.numel() for layer in layers)
    assert shapes.bytes == sum(parameter.numel() * 4 for parameter in model.parameters())
    assert torch.isclose(
        torch.tensor(shapes.shrunk(0.5).prunable / shapes.prunable), torch.tensor(0.5)
    )
