"""A device that is full: batches are halved, nothing is summed twice, and one row without room is said."""

import errno

import numpy as np
import pytest
import torch
from pretended import DEVICE, pretended
from small import BRIEF, small_run
from tiny import tiny
from tiny_encoder import tiny_encoder

from numprune_export.calibration import generated_text, statistics
from numprune_export.calibration.generated_text_settings import GeneratedText
from numprune_export.calibration.gradients.mask_gradients import LabelledLoss, unit_gradients
from numprune_export.calibration.gradients.output_fisher import next_token_fisher
from numprune_export.core.errors import DeviceError, OutputError
from numprune_export.core.halving import watched
from numprune_export.data.corpus import Windows
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.models import block_runner
from numprune_export.models.batch import TokenRows
from numprune_export.models.device import Placement, placed
from numprune_export.models.families import FAMILIES
from numprune_export.numerics import held
from numprune_export.pipeline import models
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit
from numprune_export.pruning.compensate.distill_layers import tune
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.plan import Plan

ROWS, LENGTH = 16, 24

RUN = {
    **BRIEF,
    "calibration": {"texts": ["small.txt"], "sequences": 8, "tokens_per_sequence": 32},
    "matmul_precision": "highest",
    "targets": {},
}


@pytest.fixture
def device():
    with pretended() as ledger:
        yield ledger


def quiet(_):
    return


def texts(*, padded):
    tokens = np.random.default_rng(0).integers(3, 97, (ROWS, LENGTH))
    return Windows(
        tokens, np.arange(LENGTH, LENGTH - ROWS, -1) if padded else np.full(ROWS, LENGTH)
    )


def plan_of(network, family):
    sites = family.sites(network)
    return Plan(sites, {site.name: tuple(range(0, site.units, 2)) for site in sites})


def cut(network, family):
    nothing = statistics.Statistics.of_nothing
    return apply.one_shot(network, family, plan_of(network, family), Nothing(), nothing)


def moments(network, family, windows):
    """With a stride that does not divide the length of a text."""
    sums = {}
    for block in statistics.collect(network, family, windows, ROWS, quiet, 5):
        for name, site in block.items():
            here = site.to(torch.device("cpu"))
            sums[name], sums[f"{name}.tokens"] = here.gram, torch.tensor(here.tokens)
    return sums


def fisher(network, family, windows):
    blocks = next_token_fisher(network, family, windows, batch=ROWS, tick=quiet)
    return {name: matrix for block in blocks for name, matrix in block.items()}


def masks(network, family, windows):
    def loss(output, labels):
        return torch.nn.functional.cross_entropy(output.logits, labels, reduction="none")

    labelled = LabelledLoss(loss, torch.arange(ROWS) % 2)
    return unit_gradients(network, family, windows, labelled, batch=ROWS, per="example", tick=quiet)


def written(network, family, windows):
    starts = np.arange(3, 9)[:, None]
    settings = GeneratedText(sequences=ROWS)
    made = generated_text.write(network, starts, settings, tokens=5, seed=0, rows=ROWS, tick=quiet)
    return {"tokens": torch.from_numpy(made.tokens)}


def divergence(network, family, windows):
    dense = DenseLogits.of(network, family, windows, batch=ROWS, stride=5)
    return {"nats": torch.tensor(dense.divergence(cut(network, family)).value)}


def sequential(network, family, windows):
    repair = ClosedForm(token_stride=2, producers=ProducerRefit(least=0, iterations=2))
    plan = plan_of(network, family)
    small = apply.sequential(network, family, plan, repair, windows, ROWS, quiet)
    return dict(small.named_parameters())


def tuned(network, family, windows):
    small, _ = tune(cut(network, family), network, family, windows, Refit(), batch=ROWS, tick=quiet)
    return dict(small.named_parameters())


ENCODERS = (masks, tuned)


@pytest.mark.parametrize(
    ("work", "room"),
    [
        (moments, 0.7), (fisher, 0.7), (masks, 0.7), (written, 0.7), (divergence, 0.7),
        (sequential, 0.8), (tuned, 0.8),
    ],
)  # fmt: skip
def test_work_in_halves_gives_what_it_gives_at_once(device, work, room):
    """`room`: of the memory that the work takes at once."""
    of_encoder = work in ENCODERS
    network = tiny_encoder("bert", "sequence") if of_encoder else tiny(num_hidden_layers=1)
    network, family = placed(network, DEVICE, torch.float32), FAMILIES[network.config.model_type]
    device.restart()
    before = device.live

    def run():
        got = work(network, family, texts(padded=True))
        return {name: value.detach().cpu().double() for name, value in got.items()}

    expected = run()
    device.capacity = before + int(room * (device.peak - before))
    with watched() as halved:
        got = run()
    assert halved
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)


def test_activations_wait_where_there_is_room(device, monkeypatch, tmp_path):
    """Hidden states, inputs and targets of all texts are read batch by batch; the weights are the
    same. Files have no name, so nothing is left behind."""
    network = placed(tiny(num_hidden_layers=2), DEVICE, torch.float32)
    family, windows = FAMILIES["llama"], texts(padded=True)
    plan = plan_of(network, family)
    results, peaks, moved = [], [], []
    for place in ("device", "main memory", "file"):
        monkeypatch.setattr(held, "place_on", lambda _, place=place: place)
        device.restart()
        before = device.live
        repair = ClosedForm(token_stride=2, producers=ProducerRefit(least=0, iterations=2))
        with held.waiting_in(tmp_path):
            small = apply.sequential(network, family, plan, repair, windows, 2, quiet)
        peaks.append(device.peak - before)
        moved.append(sum(bytes_ for line, bytes_ in device.to_host.items() if "held.py" in line))
        results.append([weight.detach().cpu() for weight in small.parameters()])
        del small
    first, *others = results
    assert all(torch.equal(*pair) for other in others for pair in zip(first, other, strict=True))
    hidden = windows.lengths.sum() * network.config.hidden_size * 4
    assert moved[0] == 0
    assert moved[1] == moved[2] >= 4 * hidden  # states, and inputs and outputs of the MLP, twice
    assert max(peaks[1:]) < peaks[0] - 2 * hidden
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("available", "place"), [(0.5, "device"), (0.1, "file")]
)  # fmt: skip
def test_a_processor_without_main_memory_uses_files(monkeypatch, tmp_path, available, place):
    """The file's pages are not anonymous memory: the system can write them out."""
    monkeypatch.setattr(held.host_memory, "limit_bytes", lambda: 1000)
    monkeypatch.setattr(held.host_memory, "available_bytes", lambda: int(1000 * available))
    assert held.place_on(torch.device("cpu")) == place
    values = torch.arange(24, dtype=torch.bfloat16).reshape(2, 12)[:, ::2]
    with held.waiting_in(tmp_path):
        waiting = held.Waiting(values)
    assert torch.equal(waiting.read(), values)
    assert (waiting.read().data_ptr() == values.data_ptr()) == (place == "device")


def test_a_full_disk_is_said(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(held, "place_on", lambda _: "file")
    monkeypatch.setattr(held.os, "posix_fallocate", full)
    with held.waiting_in(tmp_path), pytest.raises(OutputError, match="no space left"):
        held.Waiting(torch.zeros(3))


def added_in_the_hook(block, index, batches, layers, tick, *, run_on):
    """As a hook adds that does not wait for the block."""

    def hook(look):
        return lambda _, inputs: look(TokenRows(inputs[0].reshape(-1, inputs[0].shape[-1])))

    handles = [
        block.get_submodule(path).register_forward_pre_hook(hook(look))
        for path, look in layers.items()
    ]
    block_runner.advance(block, index, batches, tick)
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("planted", [False, True])
def test_a_token_of_a_repeated_batch_is_counted_once(device, monkeypatch, planted):
    network = placed(tiny(num_hidden_layers=1, intermediate_size=512), DEVICE, torch.float32)
    if planted:
        monkeypatch.setattr(block_runner, "capture_inputs", added_in_the_hook)
    device.restart()
    before = device.live
    sums = []
    for capacity in (None, 0.85):
        if capacity:
            device.capacity = before + int(capacity * (device.peak - before))
        (block,) = statistics.collect(network, FAMILIES["llama"], texts(padded=False), ROWS, quiet)
        sums.append([site.tokens for site in block.values()])
        del block
    assert sums[0] == [ROWS * LENGTH] * 2
    assert (sums[1] == sums[0]) != planted


def test_a_device_without_room_for_one_row_ends_the_stage_with_what_helps(
    device, tmp_path, monkeypatch
):
    monkeypatch.setattr(models, "place", lambda *_, **__: Placement(DEVICE, "pretended"))
    prepare = block_runner.prepare_batches

    def prepared_on_a_full_device(network, family, *rest):
        """There is room for the sums of a block, but for nothing of a text."""
        batches = prepare(network, family, *rest)
        first = [site for site in family.sites(network) if site.block == 0]
        sums = sum(4 * site.inputs**2 + 8 * site.inputs for site in first)
        device.capacity = device.live + sums + 2**13
        return batches

    monkeypatch.setattr(block_runner, "prepare_batches", prepared_on_a_full_device)
    said = r"stage `score`, block 0: \d\.\d+ MiB wanted, \d\.\d+ MiB free"
    with pytest.raises(DeviceError, match=said) as ended:
        small_run(tmp_path, device="cuda", **RUN)
    assert ended.value.exit_code == 8
    assert "calibration.tokens_per_sequence" in ended.value.hint
    assert not list((tmp_path / "out").glob(".*.parts"))
