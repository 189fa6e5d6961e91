"""Where a recipe's `device` puts a model, by what PyTorch says of CUDA."""

import pytest
import torch
from pretended import DEVICE, pretended
from tiny import tiny, uneven

from numprune_export.core.errors import DeviceError
from numprune_export.models import device

GPUS, FREE = 2, 10_000


@pytest.fixture
def cuda(monkeypatch):
    """Two devices of which the second is the current one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: GPUS)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (FREE, 2 * FREE))


@pytest.mark.parametrize(
    ("name", "wanted", "chosen"),
    [
        ("cpu", 1, "cpu"),
        ("cuda", FREE, "cuda:1"),
        ("cuda:0", FREE, "cuda:0"),
        ("auto", int(device.FILLED * FREE), "cuda:1"),
        ("auto", int(device.FILLED * FREE) + 1, "cpu"),
    ],
)
@pytest.mark.usefixtures("cuda")
def test_the_device_is_the_named_or_where_the_model_fits(name, wanted, chosen):
    assert str(device.choose(name, wanted).device) == chosen


@pytest.mark.usefixtures("cuda")
def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DeviceError, match="there are 2 CUDA devices") as refused:
        device.choose("cuda:2", 1)
    assert "`cuda:1` or below" in refused.value.hint


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_without_cuda_a_named_device_is_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="has no CUDA device") as refused:
        device.choose(name, 1)
    assert "device: cpu" in refused.value.hint


def test_without_cuda_the_automatic_device_is_the_cpu_and_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    placement = device.choose("auto", 1)
    assert (placement.device, placement.reason) == (device.CPU, "PyTorch has no CUDA device")


def test_a_model_elsewhere_computes_as_here_and_is_not_copied_twice():
    model = uneven("llama")
    tokens = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        expected = model(tokens).logits
    assert device.on(model, device.CPU) is model
    with pretended(), torch.no_grad():
        there = device.on(model, DEVICE)
        assert device.on(there, DEVICE) is there
        assert {tensor.device for tensor in (*there.parameters(), *there.buffers())} == {DEVICE}
        torch.testing.assert_close(there(tokens.to(DEVICE)).logits.cpu(), expected)
        back = device.on(there, device.CPU)
    assert all(
        torch.equal(a, b) for a, b in zip(back.parameters(), model.parameters(), strict=True)
    )


def test_a_tied_head_stays_tied_there():
    model = tiny("llama", tie_word_embeddings=True)
    with pretended():
        there = device.on(model, DEVICE)
        assert there.lm_head.weight is there.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("free", "asked", "streamed"),
    [(1000, None, False), (100, None, True), (1000, True, True), (100, False, False)],
)
def test_a_model_is_streamed_where_two_copies_do_not_fit(monkeypatch, free, asked, streamed):
    monkeypatch.setattr(device, "available_bytes", lambda: free)
    placement = device.place("cpu", device.Wanted(80, 170, 30), streamed=asked)
    assert placement.streamed is streamed
    assert ("blocks are read while they are in use" in placement.reason) is streamed


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [(device.Wanted(80, 170, None), None), (device.Wanted(80, 170, 60), None),
     (device.Wanted(80, 170, 30), False)],
)  # fmt: skip
def test_a_model_that_cannot_fit_is_refused_before_it_is_read(monkeypatch, wanted, asked):
    monkeypatch.setattr(device, "available_bytes", lambda: 50)
    with pytest.raises(DeviceError, match="GB free") as refused:
        device.place("cpu", wanted, streamed=asked)
    assert "stream_weights" in refused.value.hint


@pytest.mark.usefixtures("cuda")
def test_a_gpu_with_room_for_some_blocks_is_taken_and_the_model_streamed():
    placement = device.place("auto", device.Wanted(8_000, 17_000, 3_000))
    assert str(placement.device) == "cuda:1"
    assert placement.streamed
