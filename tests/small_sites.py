"""Sites of a model that never exists: what searches and plans need to know of one."""

import itertools

import torch

from numprune_export.models.site import Producer, Site

MAY_BE_EMPTY = True


def sites(blocks=2, heads=3, neurons=4, empty=MAY_BE_EMPTY):
    """Attention and MLP of every block; widths one for all, or a list by block."""
    model_sites = []
    heads = [heads] * blocks if isinstance(heads, int) else heads
    neurons = [neurons] * blocks if isinstance(neurons, int) else neurons
    for index in range(blocks):
        qkv = tuple(Producer(name, 8) for name in "qkv")
        model_sites.append(Site(index, "attention", heads[index], qkv, "o", 8, 1100, empty))
        up = (Producer("up", 1),)
        model_sites.append(Site(index, "mlp", neurons[index], up, "down", 1, 65, empty))
    return model_sites


def random_importance(model_sites, seed):
    """Squares of normal numbers, some of them equal."""
    generator = torch.Generator().manual_seed(seed)
    return {
        site.name: (torch.randn(site.units, generator=generator).square() * 4).round() / 4
        for site in model_sites
    }


def worth(importance, kept):
    return sum(float(importance[name][list(units)].sum()) for name, units in kept.items())


def every_plan(model_sites, counts):
    """All choices of the best n units of every site, n among counts(site)."""
    yield from itertools.product(*(counts(site) for site in model_sites))


def best_prefix(importance, model_sites, chosen):
    """What the chosen numbers of best units are worth."""
    return sum(
        float(importance[site.name].sort(descending=True).values[:count].sum())
        for site, count in zip(model_sites, chosen, strict=True)
    )
