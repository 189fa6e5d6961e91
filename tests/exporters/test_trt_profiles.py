"""The shapes an engine is built for: what follows from a recipe, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shaped import shaped

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.export import targets
from numprune_exporters.trt.profiles import Profiles, Span, corners, from_facts
from numprune_exporters.trt.settings import TrtRtxSettings, TrtSettings, profiles


def derived(max_positions=2048, head_dim=16, **content):
    settings = targets.settings_for(targets.find("trt-rtx"), content)
    return profiles(
        shaped([(1, 1, 8)], max_positions=max_positions, head_dim=head_dim), settings, "trt-rtx"
    )


def test_defaults_of_a_long_model():
    assert derived(8192) == Profiles(
        prefill_batch=Span(1, 1, 4),
        length=Span(1, 128, 1024),
        positions=Span(1, 1, 1024),
        decode_batch=Span(1, 1, 4),
        capacity=Span(1, 1024, 8192),
        model_positions=8192,
    )


def test_defaults_of_a_short_model_stay_within_it():
    shapes = derived(96)
    assert (shapes.length, shapes.positions) == (Span(1, 96, 96), Span(1, 1, 96))
    assert shapes.capacity == Span(1, 96, 96)


def test_given_sizes_are_kept_and_the_rest_moves_to_fit():
    shapes = derived(
        prefill={"batch": {"min": 2, "max": 8}, "length": {"opt": 1500}, "positions": {"max": 1}},
        decode={"batch": {"min": 1}, "capacity": {"max": 1600}},
    )
    assert shapes.prefill_batch == Span(2, 2, 8)
    assert shapes.length == Span(1, 1500, 1500)
    assert shapes.positions == Span(1, 1, 1)
    assert shapes.decode_batch == Span(1, 2, 8)
    assert shapes.capacity == Span(1, 1024, 1600)


@pytest.mark.parametrize(
    ("head_dim", "asked", "slots"), [(16, 1001, 1008), (128, 1001, 1001), (24, 1001, 1008)]
)
def test_slots_are_rounded_up_to_aligned_layers_and_tokens_are_not(head_dim, asked, slots):
    shapes = derived(head_dim=head_dim, max_positions=asked)
    assert shapes.capacity.max == slots
    shapes.require_capacity(asked)
    with pytest.raises(InputError, match=f"capacity `{asked + 1}` is outside the 1 to {asked}"):
        shapes.require_capacity(asked + 1)


@given(
    asked=st.tuples(*[st.none() | st.integers(1, 300)] * 3),
    smallest=st.integers(1, 300),
    largest=st.integers(1, 300),
)
def test_any_span_is_ordered_and_holds_what_was_asked(asked, smallest, largest):
    given_ = [asked_size for asked_size in asked if asked_size is not None]
    low, high = min(smallest, largest), max(smallest, largest)
    content = dict(zip(("min", "opt", "max"), asked, strict=True))
    if given_ != sorted(given_):
        with pytest.raises(RecipeError, match=r"`targets\.trt\.prefill\.batch`.*min <= opt <= max"):
            targets.settings_for(targets.find("trt"), {"prefill": {"batch": content}})
        return
    sizes = TrtSettings.model_validate({"prefill": {"batch": content}}).prefill.batch
    span = sizes.span(low, low, high)
    assert span.min <= span.opt <= span.max
    for name, size in content.items():
        assert size is None or getattr(span, name) == size


@pytest.mark.parametrize(
    ("content", "key", "offence"),
    [
        ({"prefill": {"length": {"max": 2049}}}, "prefill.length.max", "2049.*positions.*2048"),
        ({"decode": {"capacity": {"max": 4096}}}, "decode.capacity.max", "4096.*positions.*2048"),
        (
            {"prefill": {"length": {"max": 512}}, "decode": {"capacity": {"max": 256}}},
            "prefill.length.max",
            "512.*slots.*256",
        ),
        (
            {"prefill": {"length": {"max": 64}, "positions": {"max": 65}}},
            "prefill.positions.max",
            "65.*tokens.*64",
        ),
        (
            {"prefill": {"batch": {"max": 8}}, "decode": {"batch": {"max": 4}}},
            "prefill.batch.max",
            "8.*decoded.*4",
        ),
        ({"decode": {"batch": {"min": 2}}}, "decode.batch.min", "2.*1"),
    ],
)
def test_profiles_that_the_model_cannot_take_are_recipe_errors(content, key, offence):
    with pytest.raises(RecipeError, match=rf"`targets\.trt-rtx\.{key}`.*{offence}") as caught:
        derived(**content)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"dtype": "int8"}, "dtype"),
        ({"prefill": {"length": {"max": 0}}}, "prefill.length.max"),
        ({"prefill": {"width": {}}}, "prefill.width"),
        ({"compute_capabilities": ["sm90"]}, "compute_capabilities.0"),
        ({"timing_cache": "x"}, "timing_cache"),
        ({"repeat_builds": 0}, "repeat_builds"),
        ({"workspace_mib": "1"}, "workspace_mib"),
    ],
)
def test_settings_are_strict_and_name_the_key(content, key):
    with pytest.raises(RecipeError, match=rf"`targets\.trt-rtx\.{key}`"):
        targets.settings_for(targets.find("trt-rtx"), content)


def test_stripped_engine_needs_its_graph():
    with pytest.raises(RecipeError, match="keep_graph: true"):
        targets.settings_for(targets.find("trt"), {"stripped": True, "keep_graph": False})


def test_each_target_takes_a_list_from_yaml():
    settings = TrtRtxSettings.model_validate({"compute_capabilities": ["sm80", "sm86"]})
    assert settings.compute_capabilities == ("sm80", "sm86")


def test_profiles_survive_the_index():
    shapes = derived(prefill={"batch": {"max": 7}}, decode={"batch": {"max": 9}})
    assert from_facts({"profiles": shapes.facts(), "max_positions": 2048}) == shapes


@pytest.mark.parametrize("facts", [{}, {"profiles": {"prefill": {}}}, {"profiles": None}])
def test_index_without_profiles_is_refused(facts):
    with pytest.raises(InputError, match="does not state its engine profiles"):
        from_facts(facts)


@pytest.mark.parametrize(
    ("batch", "length", "positions", "key"),
    [
        (5, 4, 1, "prefill.batch"),
        (2, 129, 1, "prefill.length"),
        (2, 4, 129, "prefill.positions"),
    ],
)
def test_prompt_outside_the_profile_is_refused_by_name(batch, length, positions, key):
    shapes = derived(128)
    shapes.require_prompt(4, 128, 128)
    with pytest.raises(InputError, match="the engine was built for") as caught:
        shapes.require_prompt(batch, length, positions)
    assert f"`{key}`" in caught.value.hint


def test_shapes_to_check_leave_room_for_the_tokens_after_them():
    assert derived(128).prefill_shapes(2) == {"min": [1, 1], "opt": [1, 126], "max": [4, 126]}
    capped = derived(decode={"capacity": {"max": 100}}, prefill={"length": {"max": 50, "opt": 9}})
    assert capped.prefill_shapes(2) == {"min": [1, 1], "opt": [1, 9], "max": [4, 50]}


def test_shapes_too_long_to_be_followed_by_a_token_are_left_out():
    full = derived(64, prefill={"length": {"min": 64}})
    assert full.prefill_shapes(2) == {}


def test_corners_fill_in_the_dynamic_dimensions():
    spans = {"batch": Span(1, 2, 3), "capacity": Span(4, 5, 6)}
    assert corners((7, "batch", "capacity", 16), spans) == (
        (7, 1, 4, 16),
        (7, 2, 5, 16),
        (7, 3, 6, 16),
    )


def test_a_prompt_reads_one_slot_and_a_step_gives_one_token():
    prefill, decode = derived(128).dimensions
    assert prefill["capacity"] == Span(1, 1, 1)
    assert prefill["sequence"] == Span(1, 128, 128)
    assert (decode["sequence"], decode["k"]) == (Span(1, 1, 1), Span(1, 1, 1))
    assert decode["capacity"] == Span(1, 128, 128)
