"""Which image comes next, on points in a plane where the answer can be seen."""

import numpy as np
import pytest

from tailora.labelling.acquisition import GIVE_UP, Chooser
from tailora.labelling.journal import Answered, Asked, PageShown
from tailora.labelling.replay import Replay
from tailora.labelling.space import Space
from tailora.labelling.suggestions import Suggestions
from tests.labelling.sessions import CLASSES, settings

FARM, FOREST, QUARRY = CLASSES


@pytest.fixture(scope="module")
def circle():
    """360 directions, one for each degree."""
    angle = np.deg2rad(np.arange(360.0))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def chooser(features, *, examples=None, **changes):
    space = Space(features)
    given = {c: space.of(np.asarray(rows)) for c, rows in (examples or {}).items()}
    return Chooser(settings(features, **({"random_share": 0.0} | changes)), space, given)


def answered(given, *, wanted=None, acquisition="find"):
    """State after a page with these answers."""
    state = Replay()
    page = tuple(Asked(item, acquisition, wanted) for item in given)
    state.add(PageShown(0.0, "find", 0, 0, page))
    for item, answer in given.items():
        state.add(Answered(0.0, item, str(item), answer, acquisition))
    return state


def items(chosen):
    return [one.item for one in chosen]


def test_examples_are_searched_with_and_copies_held_back(circle):
    found = chooser(circle, examples={2: circle[[90]]}).page(Replay(), None, 12)
    assert next(one.item for one in found if one.wanted == 2) == 90
    # the cosine of copies is 0.98 or more: within eleven degrees
    assert np.diff(np.sort(items(found))).min() > 11


def test_negatives_turn_the_search_away(circle):
    """2 x the mean of positives - the mean of negatives points away from these."""
    state = answered({0: QUARRY, 80: FARM, 100: FARM})
    found = chooser(circle).page(state, None, 40)
    first = next(one.item for one in found if one.wanted == 2)
    query = 2 * np.array([1.0, 0.0]) - circle[[80, 100]].astype(float).mean(axis=0)
    best = np.degrees(np.arctan2(query[1], query[0])) % 360
    held = [
        i for i in range(360) if min(abs((i - at + 180) % 360 - 180) for at in (0, 80, 100)) > 11
    ]
    assert first == min(held, key=lambda i: (abs((i - best + 180) % 360 - 180), i))


def test_a_head_that_knows_enough_of_a_class_ranks_by_its_probability(circle):
    state = answered(
        dict.fromkeys(range(3), QUARRY) | dict.fromkeys(range(60, 65), FARM)
        | dict.fromkeys(range(90, 95), FOREST)
    )  # fmt: skip
    p = np.full((360, 3), 0.1, np.float32)
    p[200, 2], p[210, 2] = 0.9, 0.8
    found = chooser(circle).page(state, Suggestions(1, 0, p), 8)
    assert (found[0].item, found[0].wanted) == (200, 2)


def test_classes_with_few_labels_have_most_of_a_search(circle):
    state = answered({0: QUARRY} | dict.fromkeys(range(20, 110, 15), FARM) | {200: FOREST})
    found = chooser(circle).page(state, None, 36)
    wanted = [one.wanted for one in found if one.acquisition == "find"]
    assert len(wanted) == 9
    assert min(wanted.count(1), wanted.count(2)) >= 4
    assert wanted.count(0) <= 1


def test_a_search_in_vain_ends_and_the_next_phase_begins(circle):
    one = chooser(circle, target=3)
    state = answered(dict.fromkeys(range(5), FARM) | dict.fromkeys(range(90, 95), FOREST))
    assert one.phase(state) == "find"
    vain = {200 + i: FARM for i in range(GIVE_UP)}
    state.add(PageShown(0.0, "find", 0, 0, tuple(Asked(i, "find", QUARRY) for i in vain)))
    for item, answer in vain.items():
        state.add(Answered(0.0, item, str(item), answer, "find"))
    assert one.phase(state) == "check"  # the others have what is wanted
    assert chooser(circle, target=9).phase(state) == "refine"
    state.phase = "find"
    assert chooser(circle).phase(state) == "find"


def test_a_copy_is_shown_only_when_nothing_else_is_left(circle):
    """Compared with each other are all, where the code compares what would come next."""
    state = answered({0: FARM, 90: FOREST})
    page = items(chooser(circle, random_share=0).page(state, None, 60))
    cosines = circle @ circle.T / np.outer(*[np.linalg.norm(circle, axis=1)] * 2)
    shown, were_copies = [0, 90], []
    for item in page:
        held = (cosines[shown] >= 0.98).any(axis=0)
        were_copies.append(bool(held[item]))
        assert held.all() or not held[item]
        shown.append(item)
    assert were_copies == sorted(were_copies)
    assert len(set(page)) == 60 > were_copies.count(False) > 10


def test_refining_takes_the_smallest_margin_of_each_class(circle):
    state = answered(dict.fromkeys(range(0, 75, 15), FARM) | {90: FOREST, 91: FOREST, 180: QUARRY})
    state.phase = "refine"
    p = np.tile(np.array([0.8, 0.15, 0.05], np.float32), (360, 1))
    p[220] = 0.5, 0.49, 0.01  # the smallest margin, without the rarest class
    p[250] = 0.5, 0.1, 0.4
    p[280] = 0.1, 0.5, 0.38
    found = chooser(circle).page(state, Suggestions(1, 0, p), 12)[:3]
    assert [(one.item, one.wanted) for one in found] == [(250, 2), (280, 2), (220, 1)]
    assert {one.acquisition for one in found} == {"refine"}


@pytest.mark.parametrize(
    ("hits", "misses", "searched"), [(0, 0, 3), (0, 12, 3), (4, 4, 5), (9, 1, 9), (30, 0, 9)]
)
def test_as_much_is_searched_for_as_searches_succeed(circle, hits, misses, searched):
    """Of twelve images, by (hits + 1) / (searches + 4): 0.25, 0.06, 0.42, 0.71 and 0.91."""
    given = dict.fromkeys(range(hits), QUARRY) | dict.fromkeys(range(100, 100 + misses), FARM)
    state = answered(given or {0: QUARRY}, wanted=QUARRY if given else None)
    found = chooser(circle, target=99).page(state, None, 12)
    assert sum(one.wanted is not None for one in found) == searched


def test_the_others_are_the_farthest_from_all_that_were_shown(circle):
    """k-centre greedy, on all pairs at once; nothing has a label, so nothing is searched for."""
    state = answered({10: "skip", 50: "skip"})
    page = chooser(circle).page(state, None, 6)
    cosines, shown = circle @ circle.T, [10, 50]
    for one in page:
        closest = cosines[shown].max(axis=0)
        assert closest[one.item] == pytest.approx(closest.min(), abs=1e-5)
        shown.append(one.item)
    assert [one.acquisition for one in page] == ["diverse"] * 6
    assert 205 <= page[0].item <= 215


def test_everybody_is_as_likely_to_be_drawn(circle):
    """Over many seeds each image is in the first page of checks about equally often."""
    seen = np.zeros(360)
    for seed in range(300):
        state = Replay(phase="check")
        seen[items(chooser(circle, seed=seed).page(state, None, 36))] += 1
    assert seen.sum() == 300 * 36
    assert abs(seen - 30).max() < 5 * np.sqrt(300 * 0.1 * 0.9)


def test_the_random_sample_keeps_what_was_found_before(circle):
    """Without it, the sample would lack what is searched for, and the share be too small."""
    one = chooser(circle, seed=3)
    first, second, third = one.order[:3]
    state = answered({second: QUARRY})
    state.phase = "check"
    page = one.page(state, None, 2)
    assert items(page) == [first, third] or items(page) == [third, first]
    state.add(PageShown(0.0, "check", 0, 0, tuple(Asked(i, "check") for i in items(page))))
    assert one.drawn(state) == [first, second, third]


def test_images_without_data_are_never_shown(circle):
    features = circle.copy()
    features[::2] = np.nan
    found = chooser(features, random_share=0.5).page(Replay(), None, 40)
    assert all(one.item % 2 for one in found)
