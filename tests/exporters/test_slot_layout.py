"""Where an engine's cache lies: the arithmetic, and the slot graph run on memory laid out by it."""

import numpy as np
import onnx_ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import uneven

from numprune_export.core.errors import InputError
from numprune_export.models.families import FAMILIES
from numprune_exporters.graphs.slot import graph as slot_graph
from numprune_exporters.onnx.slot_session import SlotOnnx
from numprune_exporters.runners.slot_steps import SlotSteps
from numprune_exporters.trt.cache_layout import ALIGNMENT, SlotLayout, slots_for
from numprune_exporters.trt.profiles import Span

TOKEN_BYTES = st.integers(1, 300).map(lambda half: 2 * half)  # head_dim times 2 or 4


@given(
    st.integers(1, 5000), TOKEN_BYTES, st.integers(1, 6), st.lists(st.integers(1, 5), min_size=1)
)
def test_every_layer_begins_aligned_and_where_the_last_one_ends(capacity, bytes_, batch, heads):
    slots = slots_for(capacity, bytes_, Span(1, 1, 10_000))
    layout = SlotLayout(tuple(heads), batch, slots, bytes_)
    assert capacity <= slots < capacity + ALIGNMENT
    assert not any(offset % ALIGNMENT for offset in layout.offsets)
    sizes = [count * batch * slots * bytes_ for count in heads]
    ends = [offset + size for offset, size in zip(layout.offsets, sizes, strict=True)]
    assert [0, *ends] == [*layout.offsets, layout.size]


def test_no_slot_more_than_alignment_asks():
    assert slots_for(1000, 256, Span(1, 1, 2000)) == 1000
    assert slots_for(1001, 128, Span(1, 1, 2000)) == 1002
    assert slots_for(9, 2 * 16, Span(1, 1, 2000)) == 16
    assert slots_for(9, 2 * 16, Span(60, 64, 2000)) == 64  # the least the engine reads


@pytest.mark.parametrize(("capacity", "slots"), [(0, 8), (57, 64), (100, 104)])
def test_capacity_outside_the_engine_is_refused(capacity, slots):
    with pytest.raises(InputError, match=f"capacity `{capacity}` needs `{slots}` slots"):
        slots_for(capacity, 2 * 16, Span(1, 32, 63))


class LaidOut:
    """A SlotDevice in host memory, of bytes, addressed and copied as an engine's is."""

    def __init__(self, session, slots):
        self.session, self.slots = session, slots
        ports = [port for port in session.get_inputs() if port.name.startswith("past")]
        self.names, self.dim = [port.name for port in ports], ports[0].shape[3]
        self.heads = tuple(port.shape[0] for port in ports)

    def allocate(self, batch):
        self.layout = SlotLayout(self.heads, batch, self.slots, self.dim * 4)
        self.memory = np.zeros(self.layout.size, np.uint8)

    def at(self, offset, shape):
        size = int(np.prod(shape)) * 4
        return self.memory[offset : offset + size].view(np.float32).reshape(shape)

    def prefill(self, call):
        batch = len(call.tokens)
        return self.run(
            call, [np.zeros((heads, batch, 1, self.dim), np.float32) for heads in self.heads]
        )

    def decode(self, call):
        shapes = [(heads, len(call.tokens), self.slots, self.dim) for heads in self.heads]
        return self.run(call, [*map(self.at, self.layout.offsets, shapes)])

    def run(self, call, caches):
        feeds = {
            "input_ids": call.tokens,
            "position_ids": call.places,
            "logits_positions": call.asked,
            "slot_positions": call.slots,
            **dict(zip(self.names, caches, strict=True)),
        }
        logits, new = self.session.run(["logits", "new_key_values"], feeds)
        copy = self.layout.copy(sequence=call.tokens.shape[1], target=call.target, kept=call.kept)
        source = new.reshape(-1).view(np.uint8)
        for row in range(copy.rows):
            start, end = copy.offset + row * copy.target_pitch, row * copy.source_pitch
            self.memory[start : start + copy.width] = source[end : end + copy.width]
        return logits


def test_the_graph_finds_its_cache_where_the_layout_put_it(tmp_path):
    decoder = FAMILIES["llama"].decoder(uneven("llama"))
    path = tmp_path / "m.onnx"
    onnx_ir.save(slot_graph.build(decoder, {}, "float32"), path, external_data="w")
    session = onnxruntime.InferenceSession(path)
    laid_out, plain = LaidOut(session, 24), SlotOnnx(session, capacity=24)
    runs = [SlotSteps(device, capacity=24) for device in (laid_out, plain)]
    random = np.random.default_rng(0)
    prompt, lengths = random.integers(0, 97, (3, 9)), np.array([5, 8, 2])
    asked = lengths[:, None] - 1
    np.testing.assert_array_equal(*(runner.prefill(prompt, lengths, asked) for runner in runs))
    shape = (sum(laid_out.heads), 3, 24, laid_out.dim)
    np.testing.assert_array_equal(laid_out.at(0, shape), plain._cache)
    for step in range(1, 8):
        tokens = random.integers(0, 97, 3)
        np.testing.assert_array_equal(*(runner.decode(tokens, lengths + step) for runner in runs))
    whole = laid_out.at(0, shape)
    np.testing.assert_array_equal(whole, plain._cache)
    assert np.abs(whole[:, :, :15]).min(axis=3).any()
    assert not whole[:, :, 15:].any()  # 8 kept of the prompt, 7 decoded
