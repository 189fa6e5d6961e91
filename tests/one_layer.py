"""Decoders of few layers, and the graphs and dtypes of an engine."""

from dataclasses import replace

from numprune_export.models.families import FAMILIES

GRAPHS = ("fused", "decomposed")


DTYPES = ("float16", "bfloat16", "float32")


def decoder_of(model):
    return FAMILIES[model.config.model_type].decoder(model)


def first_layer_of(model):
    """Enough for a builder to meet every part, in a third of the time."""
    decoder = decoder_of(model)
    return replace(decoder, layers=decoder.layers[:1])
