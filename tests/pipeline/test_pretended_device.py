"""Pruning on a device that is not the CPU: the CPU's results, and no more traffic than must be."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from live import TEXTS, tiny_llama
from pretended import DEVICE, pretended
from pydantic import TypeAdapter
from safetensors.torch import load_file
from small import BRIEF, small_run
from tiny import tiny
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import numprune_export as ne
from numprune_export.calibration import statistics
from numprune_export.core.progress import Silent
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.device import Placement, placed
from numprune_export.models.families import FAMILIES
from numprune_export.numerics import obs
from numprune_export.pipeline import models
from numprune_export.pruning.score import Score
from numprune_export.pruning.score_sites import score_sites
from numprune_export.recipe import builtin_dir

PLAIN = {
    "matmul_precision": "highest",
    "calibration.sequences": 8,
    "calibration.tokens_per_sequence": 40,
}
DATA = builtin_dir() / "data"
DOCUMENTS = [line for line in TEXTS.read_text(encoding="utf-8").splitlines() if len(line) > 40][:20]
METHODS = {
    "best": {"method": "best", "generated_text.sequences": 4, "query_heads": "single"},
    "paper-numerical": {"method": "paper-numerical"},
    "flap": {"method": "fast", "score": "flap", "compensate.method": "bias"},
    "padded": {"method": "fast", "calibration.windows": "documents"},
}
LABELLED = {
    "paper-fisher": {"method": "paper-fisher"},
    "best": {"method": "best"},
    "own labels": {"score.method": "fisher", "score.labels": "own", "compensate": "refit"},
}
METHOD_NAMES = {score.model_fields["method"].default for score in get_args(get_args(Score)[0])}
SCORES = "scores/scores.safetensors"
BLOCKS, BATCHES = 3, 4


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.fixture
def device():
    """The ledger of a pretended device."""
    with pretended() as ledger:
        yield ledger


@pytest.fixture
def windows():
    """Padded ones too: a mask is no mistake where nothing is padded."""
    tokens = np.random.default_rng(0).integers(3, 97, (2 * BATCHES, 16))
    return Windows(tokens, np.arange(16, 16 - 2 * BATCHES, -1))


def prune(network, tokenizer, texts, settings):
    chosen = {**PLAIN, **settings}
    if "calibration.max_length" in chosen:
        del chosen["calibration.tokens_per_sequence"]
    return ne.prune(network, tokenizer, texts, 0.7, chosen.pop("method", "fast"), chosen)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_prunes_there_as_on_the_cpu(model, device, name):
    network, tokenizer = model
    texts = DOCUMENTS if name == "padded" else TEXTS
    expected = prune(network, tokenizer, texts, METHODS[name])
    got = prune(placed(network, DEVICE, torch.float32), tokenizer, texts, METHODS[name])
    same(got, expected)
    assert not device.indices, device.indices


@pytest.mark.parametrize("name", LABELLED)
def test_an_encoder_is_pruned_there_as_on_the_cpu(device, name):
    folder = builtin_dir() / "tiny-bert"
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = DATA / "presidents_train.jsonl"
    settings = {"calibration.sequences": 32, "calibration.max_length": 32, **LABELLED[name]}
    expected = prune(network, tokenizer, texts, settings)
    got = prune(placed(network, DEVICE, torch.float32), tokenizer, texts, settings)
    same(got, expected)


@pytest.mark.parametrize("name", sorted(METHOD_NAMES))
def test_every_score_is_computed_there_as_on_the_cpu(device, windows, name):
    network, family = tiny("llama"), FAMILIES["llama"]
    (first, *_) = moments(network, windows)
    sites = [site for site in family.sites(network) if site.block == 0]
    method = TypeAdapter(Score).validate_python({"method": name})

    def scored(where):
        given = []
        for site in sites:
            weight = network.model.layers[0].get_submodule(site.consumer).weight.detach()
            rows = torch.linspace(0.1, 1, 3 * site.units).reshape(3, site.units)
            sums = replace(
                first[site.name], unit_gradients=rows, output_fisher=torch.eye(64).double()
            )
            given.append((site, weight.to(where), sums.to(where)))
        return list(score_sites(given, method, keep=0.7))

    for expected, got in zip(scored(torch.device("cpu")), scored(DEVICE), strict=True):
        torch.testing.assert_close(got.columns.cpu(), expected.columns, rtol=1e-5, atol=1e-9)
        assert got.removal.order.tolist() == expected.removal.order.tolist()


def same(got, expected):
    assert got.plan.kept == expected.plan.kept
    for mine, reference in zip(got.model.parameters(), expected.model.parameters(), strict=True):
        assert mine.device == DEVICE
        torch.testing.assert_close(mine.cpu(), reference, rtol=1e-3, atol=1e-4)


ENCODER = {
    "model": str(builtin_dir() / "tiny-bert"),
    "calibration": {
        "files": [str(DATA / "presidents_train.jsonl")],
        "sequences": 32,
        "max_length": 32,
    },
    "evaluation": {
        "files": [str(DATA / "presidents_dev.jsonl")],
        "sequences": 32,
        "max_length": 32,
    },
    "score": "fisher",
    "allocate": "search",
    "compensate": "refit",
    "targets": {},
    "benchmark": {"batches": [1], "lengths": [16], "samples": 5, "sessions": 1, "reference": False},
}
DECODER = {
    **BRIEF,
    "calibration": {
        "texts": ["small.txt"],
        "sequences": 16,
        "tokens_per_sequence": 128,
        "batch": 16,
    },
    "compensate": {"method": "closed_form", "producers": None},
    "targets": {},
}


class Counted(Silent):
    """Counts the steps of every stage that says how many it has."""

    def __init__(self):
        self.running, self.ended = [], []

    def begin(self, stage):
        self.running.append([stage, 0, 0])

    def expect(self, steps):
        self.running[-1][1] += steps

    def advance(self, steps):
        self.running[-1][2] += steps

    def end(self, stage, seconds, *, resumed):
        self.ended.append(self.running.pop())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "room"), [(DECODER, 14), (ENCODER, 9)], ids=["decoder", "encoder"]
)
def test_a_whole_run_there_reports_what_the_cpus_run_reports(
    device, tmp_path, monkeypatch, sections, room
):
    """Chosen as a GPU is, with too little memory for whole batches; the artifacts stay on the CPU.

    `room`: capacity in MiB.
    """
    (tmp_path / "cpu").mkdir()
    (tmp_path / "gpu").mkdir()
    precise = {**sections, "matmul_precision": "highest"}
    steps = Counted()
    expected = small_run(tmp_path / "cpu", steps, device="cpu", **precise)
    monkeypatch.setattr(models, "place", lambda *_, **__: Placement(DEVICE, "pretended"))
    device.restart()
    device.capacity = device.live + int(room * 2**20)
    got = small_run(tmp_path / "gpu", steps, device="cuda", **precise)
    assert {"score", "prune", "validate"} <= {stage for stage, *_ in steps.ended}
    assert [stage for stage in steps.ended if stage[1] != stage[2]] == []
    log = (tmp_path / "gpu" / "out" / "log").read_text()
    assert "device: gpu:0, pretended" in log
    assert " batch halved to " in log
    assert any("batch halved to" in warning for warning in got.warnings)
    assert got.plan == expected.plan
    mine, theirs = (load_file(tmp_path / on / "out" / SCORES) for on in ("gpu", "cpu"))
    for site, scores in theirs.items():
        torch.testing.assert_close(mine[site], scores, rtol=1e-5, atol=1e-5 * float(scores.max()))
    compared = [name for name in expected.metrics if name.startswith(("quality.", "parity."))]
    assert len(compared) >= 3
    assert set(got.metrics) == set(expected.metrics)
    for name in compared:
        if name.startswith("quality."):
            assert got.metrics[name].value == pytest.approx(expected.metrics[name].value, rel=1e-3)
    on_it = [name for name in compared if got.metrics[name].conditions.get("device") == "gpu"]
    assert {name.rpartition(".")[2] for name in on_it} == {"dense", "masked", "pruned"}
    assert not device.indices, device.indices


def moments(network, windows):
    family = FAMILIES["llama"]
    return list(statistics.collect(network, family, windows, 2, lambda rows: None))


def test_moments_wait_for_nothing_but_their_check(device, windows):
    """And move nothing but tokens and masks: weights, hidden states and sums stay there."""
    network = placed(tiny("llama"), DEVICE, torch.float32)
    device.restart()
    moments(network, windows)
    sites = 2 * BLOCKS
    checks = [n for line, n in device.waits.items() if line.startswith("calibration/statistics")]
    assert checks == [sites]
    assert sum(device.waits.values()) <= sites + 2 * BATCHES, device.waits
    assert sum(device.to_host.values()) <= 8 * BATCHES, device.to_host
    tokens = windows.tokens.nbytes
    assert sum(device.to_device.values()) <= 3 * tokens + 64 * BATCHES, device.to_device


def test_one_block_of_moments_lives_at_a_time(device, windows):
    network = placed(tiny("llama"), DEVICE, torch.float32)
    device.restart()
    own = device.live
    for block in statistics.collect(network, FAMILIES["llama"], windows, 2, lambda rows: None):
        del block
    gram = 4 * 96**2
    hidden = 4 * 64 * windows.tokens.size
    assert device.peak - own <= 4 * 2 * gram + 4 * hidden, (device.peak - own, gram, hidden)
    assert device.live - own <= 4096, device.live - own


def tokens_on_the_cpu(patch):
    unmoved = block_runner.model_inputs

    def model_inputs(network, family, windows):
        inputs, real = unmoved(network, family, windows)
        inputs["input_ids"] = inputs["input_ids"].cpu()
        return inputs, real

    patch.setattr(block_runner, "model_inputs", model_inputs)


def places_on_the_cpu(patch):
    unmoved = block_runner._places
    patch.setattr(block_runner, "_places", lambda real, device: unmoved(real, torch.device("cpu")))


def gram_on_the_cpu(patch):
    unmoved = statistics.StatisticsAccumulator.__init__

    def on_the_cpu(self, width, device):
        unmoved(self, width, torch.device("cpu"))

    patch.setattr(statistics.StatisticsAccumulator, "__init__", on_the_cpu)


def identity_on_the_cpu(patch):
    unmoved = torch.eye
    patch.setattr(torch, "eye", lambda *sizes, device=None, **rest: unmoved(*sizes, **rest))


@pytest.mark.parametrize(
    ("plant", "line"),
    [
        (tokens_on_the_cpu, "models/block_runner.py"),
        (places_on_the_cpu, "models/batch.py"),
        (gram_on_the_cpu, "numerics/gram.py"),
        (identity_on_the_cpu, "numerics/obs.py"),
    ],
)
def test_what_was_left_on_the_cpu_is_named(device, windows, monkeypatch, plant, line):
    network = placed(tiny("llama"), DEVICE, torch.float32)
    plant(monkeypatch)
    with pytest.raises(RuntimeError, match=rf"expected all tensors on one device.* at {line}:\d"):
        moments(network, windows)
        weight = network.model.layers[0].self_attn.o_proj.weight.detach().double()
        obs.prune_order(weight, torch.eye(64, device=DEVICE).double(), None, width=8)
