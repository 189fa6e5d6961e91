"""A model past 2 GiB, which one protobuf file cannot hold."""

import numpy as np
import onnx
import pytest
import torch
from tiny import tiny

from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

GIB = 1 << 30


@pytest.fixture
def folder(tmp_path):
    """Emptied at the end: pytest would keep the 2 GiB of several runs."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()


@pytest.mark.slow
def test_weights_beyond_two_gib_are_written_where_the_graph_says(folder):
    model = tiny("llama", tie_word_embeddings=True)
    vocabulary = 2 * GIB // (64 * 4) + 1
    # A stride of 0 makes 2 GiB of rows out of one.
    model.model.embed_tokens.weight.data = torch.ones(1, 64).expand(vocabulary, 64)
    model.lm_head.weight = model.model.embed_tokens.weight
    artifact = OnnxExporter().export(
        FAMILIES["llama"].decoder(model), folder, OnnxSettings(graph="standard")
    )
    assert artifact.size_bytes > 2 * GIB
    graph = onnx.load(folder / artifact.entry, load_external_data=False).graph
    onnx.checker.check_model(folder / artifact.entry, full_check=True)
    (down,) = (
        initializer
        for initializer in graph.initializer
        if initializer.name == "layers.2/mlp.down.weight"
    )
    place = {entry.key: entry.value for entry in down.external_data}
    assert int(place["offset"]) > 2 * GIB
    stored = np.memmap(
        folder / place["location"],
        np.float32,
        mode="r",
        offset=int(place["offset"]),
        shape=tuple(down.dims),
    )
    expected = model.model.layers[2].mlp.down_proj.weight.detach().numpy().T
    np.testing.assert_array_equal(stored, expected)
