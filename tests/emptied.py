"""Small encoders that have lost whole sublayers, made by the code under test."""

from tiny_encoder import tiny_encoder

from numprune_export.calibration.statistics import Statistics
from numprune_export.models.families import FAMILIES
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan

EMPTIED = (
    "layers.0.attention",
    "layers.1.mlp",
    "layers.2.attention",
    "layers.2.mlp",
)


def plan_without(family, model, emptied=EMPTIED):
    """Every second unit everywhere, and none at some sites."""
    sites = family.sites(model)
    kept = {site.name: tuple(range(0, site.units, 2)) for site in sites}
    return Plan(sites, kept | dict.fromkeys(emptied, ()))


def emptied_encoder(model_type="bert", task="sequence", emptied=EMPTIED, **overrides):
    model, family = tiny_encoder(model_type, task, **overrides), FAMILIES[model_type]
    plan = plan_without(family, model, emptied)
    return apply.one_shot(model, family, plan, Nothing(), Statistics.of_nothing)
