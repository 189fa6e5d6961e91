"""Tiny encoders as artifacts of the onnx target, and the texts they are given."""

import dataclasses

import numpy as np
import torch
from tiny_encoder import FAMILIES, VOCABULARY

from numprune_export.export.decoder import Projection
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

GRAPHS = ("fused", "standard")
WIDTH = 9


def export(encoder, folder, graph=None, dtype="float32"):
    folder.mkdir(exist_ok=True)
    return OnnxExporter().export(encoder, folder, OnnxSettings(graph=graph, dtype=dtype))


def encoder_of(model):
    return FAMILIES[model.config.model_type].encoder(model)


def texts(model, batch=3, width=WIDTH, seed=0):
    """Tokens that are not special, and types where the model has more than one."""
    random = np.random.default_rng(seed)
    tokens = random.integers(3, VOCABULARY, (batch, width))
    kinds = getattr(model.config, "type_vocab_size", 1)
    return tokens, random.integers(0, kinds, (batch, width))


def emptied(encoder, layer, sublayer):
    """The encoder with one sublayer's units all gone."""
    old = encoder.layers[layer]

    def none_of(projection):
        return Projection(projection.weight[:0], projection.bias[:0])

    def bias_of(projection):
        return Projection(projection.weight[:, :0], projection.bias)

    if sublayer == "attention":
        changes = {name: none_of(getattr(old, name)) for name in ("query", "key", "value")}
        new = dataclasses.replace(old, heads=0, output=bias_of(old.output), **changes)
    else:
        new = dataclasses.replace(old, up=none_of(old.up), down=bias_of(old.down))
    layers = [*encoder.layers]
    layers[layer] = new
    return dataclasses.replace(encoder, layers=tuple(layers))


def silenced(model, layer, sublayer):
    """The same in PyTorch, by a mask: the consumer reads nothing."""
    family = FAMILIES[model.config.model_type]
    path = family.attention_output if sublayer == "attention" else family.down
    with torch.no_grad():
        family.block_list(model)[layer].get_submodule(path).weight.zero_()
    return model
