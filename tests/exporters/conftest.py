"""Exporting a tiny model and comparing its runner with Hugging Face's own forward; engines."""

from itertools import count

import numpy as np
import pytest
import torch

from numprune_export.models.families import FAMILIES
from numprune_exporters.graphs import file as graph_file
from numprune_exporters.graphs.slot import graph as slot_graph
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings
from numprune_exporters.trt import toolkit
from numprune_exporters.trt.build.network import parse
from numprune_exporters.trt.settings import TrtRtxSettings
from numprune_exporters.trt.target import TrtRtxExporter

LENGTHS = np.array([5, 9, 3])
STEPS = 32
TOLERANCE = 1e-4  # largest error met 1.4e-5, on logits of size 20


@pytest.fixture
def export(tmp_path):
    """Export a model into a fresh folder."""
    number = count()

    def run(model, graph="gqa", folder=None):
        folder = folder or tmp_path / f"artifact{next(number)}"
        folder.mkdir()
        decoder = FAMILIES[model.config.model_type].decoder(model)
        return OnnxExporter().export(decoder, folder, OnnxSettings(graph=graph))

    return run


@pytest.fixture
def agrees():
    """Assert that an artifact gives PyTorch's logits, padded rows and decode steps included."""

    def check(artifact, model, lengths=LENGTHS, steps=STEPS):
        prompt, teacher = _tokens(model, lengths, steps)
        expected = [
            _forward(model, np.concatenate([row[:n], rest]))
            for row, n, rest in zip(prompt, lengths, teacher, strict=True)
        ]
        capacity = int(lengths.max()) + steps
        with OnnxExporter().open(artifact, threads=1, capacity=capacity) as runner:
            every = runner.prefill(prompt, lengths, all_positions=True)
            last = runner.prefill(prompt, lengths)
            for row, n in enumerate(lengths):
                _close(every[row, :n], expected[row][:n])
                _close(last[row], expected[row][n - 1])
            for step in range(steps):
                logits = runner.decode(teacher[:, step])
                for row, n in enumerate(lengths):
                    _close(logits[row], expected[row][n + step])

    return check


def _tokens(model, lengths, steps):
    """Right-padded prompts, padded with what no embedding has, and the tokens that follow."""
    random = np.random.default_rng(0)
    vocabulary = model.config.vocab_size
    prompt = random.integers(0, vocabulary, (len(lengths), lengths.max()))
    prompt[np.arange(lengths.max()) >= lengths[:, None]] = -100
    return prompt, random.integers(0, vocabulary, (len(lengths), steps))


def _forward(model, tokens):
    with torch.no_grad():
        return model(torch.from_numpy(tokens)[None]).logits[0].float().numpy()


def _close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def kit():
    return toolkit.load("trt-rtx")


@pytest.fixture
def built(tmp_path):
    """Export a decoder with these settings."""

    def run(decoder, name="artifact", **content):
        folder = tmp_path / name
        folder.mkdir()
        settings = TrtRtxSettings.model_validate(content)
        return TrtRtxExporter().export(decoder, folder, settings)

    return run


@pytest.fixture
def parsed(kit, tmp_path):
    """A decoder's network, and its graph's inputs."""

    def run(decoder, graph="fused", dtype="float16"):
        written = graph_file.write(slot_graph.build(decoder, {}, dtype, graph), tmp_path)
        return parse(kit, tmp_path / graph_file.ENTRY), written["inputs"]

    return run
