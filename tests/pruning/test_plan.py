"""Units that share producers: what they cost, how they are laid out, and plans after plans."""

from hypothesis import given
from hypothesis import strategies as st

from numprune_export.models.site import Producer, Site
from numprune_export.pruning.plan import Plan

QUERY, KEY = Producer("q", 4), Producer("k", 4, shared=True)


def site(groups, block=0):
    units = sum(groups)
    return Site(
        block,
        "attention",
        units,
        (QUERY, KEY),
        "o",
        4,
        unit_cost=10,
        groups=tuple(groups),
        shared_cost=7,
    )


GROUPS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@st.composite
def kept_of(draw, groups):
    units = sum(groups)
    return tuple(sorted(draw(st.sets(st.integers(0, units - 1), min_size=1))))


@given(st.data(), GROUPS)
def test_members_are_the_kept_units_by_group_the_fullest_first(data, groups):
    sublayer = site(groups)
    kept = data.draw(kept_of(groups))
    members = sublayer.members(kept)
    assert sorted(unit for _, units in members for unit in units) == list(kept)
    starts = [sum(groups[:group]) for group in range(len(groups) + 1)]
    for group, units in members:
        assert units
        assert all(starts[group] <= unit < starts[group + 1] for unit in units)
    sizes = [len(units) for _, units in members]
    assert sizes == sorted(sizes, reverse=True)
    assert sublayer.layout(kept) == tuple(unit for _, units in members for unit in units)


@given(st.data(), GROUPS)
def test_the_last_of_a_group_takes_what_is_shared(data, groups):
    sublayer = site(groups)
    kept = data.draw(kept_of(groups))
    alive = {group for group, _ in sublayer.members(kept)}
    assert sublayer.cost(kept) == 10 * len(kept) + 7 * len(alive)
    assert sublayer.parameters == 10 * sum(groups) + 7 * len(groups)


@given(st.data(), GROUPS)
def test_a_plan_after_a_plan_is_one_plan(data, groups):
    """The second speaks of units as the first has laid them out."""
    dense = site(groups)
    first = data.draw(kept_of(groups))
    layout = dense.layout(first)
    small = site([len(units) for _, units in dense.members(first)])
    second = data.draw(kept_of(small.groups))
    both = Plan((dense,), {dense.name: first}).refined(Plan((small,), {small.name: second}))
    assert set(both.kept[dense.name]) == {layout[unit] for unit in second}
    # The groups that are left come out alike, however they were reached.
    assert sorted(len(units) for _, units in dense.members(both.kept[dense.name])) == sorted(
        len(units) for _, units in small.members(second)
    )
    assert both.kept_parameters == small.cost(second)


def test_a_sublayer_that_the_first_plan_emptied_stays_empty():
    up = Site(0, "mlp", 4, (Producer("up", 1),), "down", 1, 9, may_be_empty=True)
    first = Plan((up, site([2, 2])), {up.name: (), "layers.0.attention": (0, 3)})
    rest = site([1, 1])
    both = first.refined(Plan((rest,), {rest.name: (1,)}))
    assert both.kept == {up.name: (), "layers.0.attention": (3,)}


def test_json_keeps_groups_and_reads_plans_without_any():
    plan = Plan((site([2, 1]),), {"layers.0.attention": (0, 2)})
    content = plan.to_json()
    assert Plan.from_json(content) == plan
    assert content["kept_parameters"] == 2 * 10 + 2 * 7
    for row in content["sites"]:
        del row["groups"], row["shared_cost"]
    assert Plan.from_json(content).sites[0].groups == ()
