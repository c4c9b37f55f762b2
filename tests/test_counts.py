from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.counts import GROUP_SCHEMES, ClassCounts, Groups, make_groups, rows_by_class
from tailora.errors import ConfigError, DataError

DOTA = ClassCounts(
    names=(
        *("ship", "small-vehicle", "large-vehicle"),
        *("plane", "harbor", "storage-tank", "tennis-court", "bridge", "swimming-pool"),
        *("helicopter", "basketball-court", "baseball-diamond", "roundabout"),
        *("soccer-ball-field", "ground-track-field"),
    ),
    values=(28068, 26126, 16969, 8055, 5983, 5029, 2367, 2047, 1736, 630, 515, 415, 399, 326, 325),
)
few = settings(deadline=None, max_examples=50)
many_counts = st.lists(st.integers(0, 10**6), min_size=2, max_size=20).filter(any)


def of(*values):
    return ClassCounts(tuple(f"c{i}" for i in range(len(values))), values)


def test_counting_keeps_the_index_of_classes_that_do_not_occur():
    counts = ClassCounts.from_labels([3, 1, 1], names="abcde")
    assert counts.names == ("a", "b", "c", "d", "e")
    assert counts.values == (0, 2, 0, 1, 0)
    assert counts.total == 3


def test_no_labels_are_counted_as_none():
    assert ClassCounts.from_labels([], names="ab").values == (0, 0)


@few
@given(st.lists(st.integers(0, 6), max_size=60))
def test_counting_agrees_with_list_count(labels):
    values = ClassCounts.from_labels(labels, names="abcdefg").values
    assert values == tuple(labels.count(c) for c in range(7))
    assert all(type(value) is int for value in values)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(DataError, match=r"labels must lie in \[0, 2\], got"):
        ClassCounts.from_labels(labels, names="abc")


def test_names_and_counts_must_pair_up():
    with pytest.raises(DataError, match="2 class names but 3 counts"):
        ClassCounts(("a", "b"), (1, 2, 3))


@few
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_priors_and_imbalance_follow_from_the_counts(values):
    counts = of(*values)
    assert counts.prior().tolist() == pytest.approx([v / sum(values) for v in values])
    assert counts.prior().sum() == pytest.approx(1)
    assert counts.imbalance().tolist() == pytest.approx([max(values) / v for v in values])


def test_dota_is_86_times_as_rich_in_ships_as_in_running_tracks():
    assert int(DOTA.imbalance()[-1]) == 86


def test_an_empty_class_has_infinite_imbalance_and_no_prior():
    counts = ClassCounts(("a", "b", "c"), (4, 0, 2))
    assert counts.imbalance().tolist() == [1, np.inf, 2]
    with pytest.raises(DataError, match=r"classes \['b'\] have no training sample.*class priors"):
        counts.prior()
    with pytest.raises(DataError, match="LDAM"):
        counts.require_all_present("LDAM")


def test_counts_all_zero_are_no_imbalance_without_a_warning():
    assert np.isnan(of(0, 0).imbalance()).all() or np.isinf(of(0, 0).imbalance()).all()


def partition(groups):
    return sorted([*groups.head, *groups.middle, *groups.tail])


@few
@given(many_counts, st.sampled_from(GROUP_SCHEMES))
def test_every_scheme_puts_each_class_in_one_group_and_larger_ones_further_up(values, scheme):
    counts = of(*values)
    try:
        groups = make_groups(counts, scheme)
    except ConfigError:
        assert scheme != "class-thirds"  # the one scheme that always leaves something everywhere
        return
    assert partition(groups) == list(range(len(values)))
    chain = [[values[c] for c in members] for _, members in groups.items() if members]
    for above, below in pairwise(chain):
        assert min(above) >= max(below)


@few
@given(st.lists(st.integers(0, 9), min_size=2, max_size=20).filter(any))
def test_thirds_differ_by_at_most_one_class_and_equal_counts_fall_by_index(values):
    groups = make_groups(of(*values))
    sizes = [len(members) for _, members in groups.items()]
    if len(values) == 2:
        assert sizes == [1, 0, 1]
    else:
        assert max(sizes) - min(sizes) <= 1
    order = sorted(range(len(values)), key=lambda c: -values[c])  # stable: ties stay by index
    assert sorted(order[: sizes[0]]) == list(groups.head)
    assert sorted(order[len(order) - sizes[2] :]) == list(groups.tail)


def test_fixed_cut_offs_at_their_own_values_are_middle():
    counts = of(101, 100, 20, 19)
    assert make_groups(counts, "counts") == Groups((0,), (1, 2), (3,))
    dota = make_groups(DOTA, "counts", low=1000, high=10_000)
    assert dota == Groups((0, 1, 2), (3, 4, 5, 6, 7, 8), (9, 10, 11, 12, 13, 14))


def test_ratios_are_to_the_largest_class():
    counts = of(1000, 101, 100, 10, 9)
    assert make_groups(counts, "ratio") == Groups((0, 1), (2, 3), (4,))
    assert make_groups(counts, "ratio", low=0.1, high=0.5) == Groups((0,), (1, 2), (3, 4))


def test_equal_mass_cuts_where_a_third_of_the_samples_lies_above():
    # 90 samples; the middle samples of the classes are the 15th, 38th, 53rd, 68th, 83rd
    counts = of(30, 16, 14, 16, 14)
    assert make_groups(counts, "equal-mass") == Groups((0,), (1, 3), (2, 4))


def test_groups_may_be_given_by_name():
    counts = ClassCounts(("a", "b", "c"), (1, 2, 3))
    groups = make_groups(counts, {"tail": ["c"], "head": ["b"], "middle": ["a"]})
    assert groups == Groups(head=(1,), middle=(0,), tail=(2,))


def test_names_of_a_group_come_largest_first():
    counts = ClassCounts(("a", "b", "c", "d"), (1, 5, 3, 9))
    assert Groups((1, 3), (), (0, 2)).names(counts) == {
        "head": ["d", "b"],
        "middle": [],
        "tail": ["c", "a"],
    }
    assert [name for name, _ in Groups((0,), (1,), (2,)).items()] == ["head", "middle", "tail"]


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("count", "unknown group scheme 'count'; did you mean 'counts'"),
        ({"head": ["a"], "mid": ["b"], "tail": ["c"]}, "unknown group 'mid'"),
        ({"head": ["a"], "middle": ["b"], "tail": ["z"]}, "unknown class in group 'tail' 'z'"),
        ({"head": ["a"], "middle": ["b"], "tail": ["b"]}, r"exactly one group.*\['b', 'c'\]"),
        ({"head": ["a", "b"], "tail": ["c"]}, "leaves the middle empty"),
        ("counts", "leaves the head empty"),
    ],
)
def test_groups_that_do_not_divide_the_classes_are_refused(scheme, message):
    with pytest.raises(ConfigError, match=message):
        make_groups(ClassCounts(("a", "b", "c"), (90, 30, 3)), scheme)


def test_limits_the_wrong_way_round_are_refused():
    with pytest.raises(ConfigError, match="low <= high, got low=5, high=3"):
        make_groups(of(9, 4, 1), "counts", low=5, high=3)


@pytest.mark.parametrize("scheme", ["class-thirds", "equal-mass", "counts"])
def test_one_class_is_the_head(scheme):
    assert make_groups(of(7), scheme) == Groups(head=(0,), middle=(), tail=())


@pytest.mark.parametrize("scheme", ["equal-mass", "ratio"])
def test_counts_all_zero_cannot_be_divided(scheme):
    with pytest.raises((ConfigError, DataError), match=r"empty|no training sample"):
        make_groups(of(0, 0, 0), scheme)


@pytest.mark.parametrize("scheme", ["class-thirds", "equal-mass"])
def test_limits_are_refused_where_they_would_not_act(scheme):
    with pytest.raises(ConfigError, match="low"):
        make_groups(of(50, 30, 10), scheme, low=20)


def test_class_names_must_differ():
    with pytest.raises(DataError, match="'a'"):
        ClassCounts(("a", "a"), (1, 2))


def test_labels_that_are_no_integers_are_refused():
    with pytest.raises(DataError, match="integer"):
        ClassCounts.from_labels(np.array([0.7, 1.2]), names="ab")


def test_groups_by_hand_know_a_class_however_it_is_spelt():
    counts = ClassCounts(("köy", "bare soil", "c"), (9, 5, 1))
    groups = make_groups(
        counts, {"head": ["ko\N{COMBINING DIAERESIS}y "], "middle": ["bare  soil"], "tail": ["c"]}
    )
    assert groups == Groups(head=(0,), middle=(1,), tail=(2,))


@given(st.lists(st.integers(0, 6), max_size=40))
def test_rows_by_class_are_those_of_a_mask_for_each_class(labels):
    found = rows_by_class(np.array(labels, dtype=np.int64), 8)
    assert len(found) == 8
    for c, rows in enumerate(found):
        np.testing.assert_array_equal(rows, np.flatnonzero(np.array(labels) == c))
