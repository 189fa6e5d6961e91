"""Recipes over small random models, as an estimate sees them."""

import pytest
from tiny import tiny
from tiny_encoder import FAMILIES, tiny_encoder

from numprune_export.models.families import DECODERS
from numprune_export.recipe import Recipe
from numprune_export.workflows.estimate.shapes import shapes_of
from numprune_export.workflows.estimate.stages import Job
from numprune_export.workflows.estimate.texts import Texts

DECODER = {"calibration": {"texts": ["a.txt"]}, "evaluation": {"texts": ["b.txt"]}}
ENCODER = {"calibration": {"files": ["a.jsonl"]}, "evaluation": {"files": ["b.jsonl"]}}


@pytest.fixture
def job():
    def make(*, layers=3, sequences=32, length=16, **changes):
        recipe = Recipe.model_validate({"version": 1, "model": "m", **DECODER, **changes})
        model = tiny("llama", num_hidden_layers=layers, num_attention_heads=8)
        family = DECODERS["llama"]
        if recipe.query_heads == "single":
            family = family.with_single_query_heads()
        shapes = shapes_of(model, family, 4)
        return Job(recipe, shapes, Texts(sequences, float(length), 4, "all alike"), False)

    return make


@pytest.fixture
def encoder_job():
    def make(*, sequences=32, **changes):
        recipe = Recipe.model_validate({"version": 1, "model": "m", **ENCODER, **changes})
        shapes = shapes_of(tiny_encoder("bert"), FAMILIES["bert"], 4)
        return Job(recipe, shapes, Texts(sequences, 16.0, 4, "all alike"), False)

    return make
