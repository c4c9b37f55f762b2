"""A session without a browser: pages, answers, undoing, and what a crash leaves."""

import json
import threading
from dataclasses import asdict

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from tailora.errors import ConfigError, RunError
from tailora.heads.linear_probe import fit_linear_probe
from tailora.labelling.acquisition import Chooser
from tailora.labelling.journal import ANSWERS, CUT, PageShown, read_journal
from tailora.labelling.replay import replay
from tailora.labelling.session import LabellingSession
from tailora.labelling.settings import SETTINGS
from tailora.labelling.space import Space
from tailora.labelling.suggestions import learn
from tests.labelling.sessions import CLASSES, blobs, label, session, settings


@pytest.fixture(scope="module")
def pool():
    return blobs()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, pool):
    """Folder of a session with 60 answers, and what it said at the end."""
    features, truth = pool
    folder = tmp_path_factory.mktemp("labelled")
    with session(folder, features) as opened:
        items = label(opened, truth, 60, page=12)
        return folder, items, opened.queries(12), opened.status()


def test_a_page_stays_until_the_next_and_shows_its_answers(tmp_path, pool):
    with session(tmp_path, pool[0]) as opened:
        page = opened.queries(6)
        assert len({one.item for one in page}) == 6
        assert all(one.answer is None for one in page)
        opened.answer(page[0].item, "farm")
        opened.answer(page[1].item, "unsure", seconds=1.5, tab="a")
        again = opened.queries(6)
        assert [one.item for one in again] == [one.item for one in page]
        assert [one.answer for one in again[:3]] == ["farm", "unsure", None]
        opened.answer(page[0].item, "quarry")
        assert opened.queries(6)[0].answer == "quarry"
        longer = opened.queries(9)
        assert [one.item for one in longer[:6]] == [one.item for one in page]
        following = opened.advance(6)
        assert not {one.item for one in following} & {one.item for one in longer}
        status = opened.status()
        assert (status.answered, status.unsure, status.counts["quarry"]) == (2, 1, 1)


def test_undo_takes_back_answers_one_by_one(tmp_path, pool):
    with session(tmp_path, pool[0]) as opened:
        assert opened.undo() == []
        first, second = (one.item for one in opened.queries(2))
        for item, answer in ((first, "farm"), (second, "forest"), (first, "quarry")):
            opened.answer(item, answer)
        assert [one.answer for one in opened.queries(2)] == ["quarry", "forest"]
        assert opened.undo() == [first]
        assert [one.answer for one in opened.queries(2)] == ["farm", "forest"]
        assert opened.undo() == [second]
        assert [one.answer for one in opened.queries(2)] == ["farm", None]
    with session(tmp_path, pool[0]) as again:  # undoing survives as well
        assert [one.answer for one in again.queries(2)] == ["farm", None]


def test_undo_takes_back_at_once_what_was_given_at_once(tmp_path, pool):
    with session(tmp_path, pool[0]) as opened:
        items = [one.item for one in opened.queries(6)]
        opened.answer(items[0], "farm", tab="ab-1")
        opened.answer_at_once(dict.fromkeys(items[1:4], "forest"), tab="ab-2")
        opened.answer_at_once(dict.fromkeys(items[4:6], "quarry"), tab="cd-7")
        opened.answer(items[2], "farm")
        with pytest.raises(ConfigError, match="there is no image 999"):
            opened.answer_at_once({items[0]: "quarry", 999: "farm"})
        assert opened.undo() == [items[2]]
        assert opened.undo(tab="ab-3") == [items[5], items[4]]
        left = ["farm", "forest", "forest", "forest", None, None]
        assert [one.answer for one in opened.queries(6)] == left
    with session(tmp_path, pool[0]) as again:
        assert [one.answer for one in again.queries(6)] == left
        assert again.orders() == {"ab": 3, "cd": 7}
        assert again.undo() == items[3:0:-1]
        assert again.undo() == [items[0]]
    lines = [json.loads(line) for line in (tmp_path / ANSWERS).read_text().splitlines()]
    for line in lines:  # as sessions had them before
        line.pop("batch", None)
        if line["kind"] == "undo":
            line.pop("tab")
    (tmp_path / ANSWERS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with session(tmp_path, pool[0]) as old:
        assert old.status().answered == 0


def test_a_session_continues_where_it_stood(labelled, pool):
    folder, _, page, status = labelled
    with session(folder, pool[0]) as again:
        assert again.queries(12) == page
        found = again.status()
        assert found.version > status.version  # a head is fitted anew
        assert asdict(found) == asdict(status) | {"version": found.version}


def test_replay_gives_every_page_to_the_bit(labelled, pool):
    """Each page follows from the journal before it and the answers that its head had learnt."""
    lines = read_journal(labelled[0])
    space, versions = Space(pool[0]), set()
    chooser = Chooser(settings(pool[0]), space, {})
    for i, line in enumerate(lines):
        if isinstance(line, PageShown):
            before = replay(lines[:i])
            learnt = replay(lines[: line.known]).labels(CLASSES)
            head = line.version and learn(
                pool[0], learnt, CLASSES, version=line.version, known=line.known
            )
            chosen = chooser.page(before, head or None, len(line.queries))
            assert [one.item for one in chosen] == [one.item for one in line.queries]
            for asked in line.queries:
                if asked.suggestion:
                    p = head.probabilities[asked.item]
                    assert asked.suggestion == CLASSES[p.argmax()]
                    assert asked.probability == float(p.max())
            versions.add(line.version)
    assert len(versions) > 2


def test_random_checks_are_blind_and_a_share_of_what_is_shown(labelled):
    pages = [one for one in read_journal(labelled[0]) if isinstance(one, PageShown)]
    asked = [one for page in pages if page.phase != "check" for one in page.queries]
    drawn = [one for one in asked if one.acquisition == "random"]
    assert len(drawn) == int(0.15 * len(asked))
    assert all(one.suggestion is None for one in drawn)
    assert any(one.suggestion for one in asked)


def test_prevalence_and_accuracy_are_those_of_the_random_sample(labelled, pool):
    folder, items, _, status = labelled
    state = replay(read_journal(folder))
    order = np.random.default_rng(0).permutation(len(pool[0])).tolist()
    shown = [i for i, one in state.asked.items() if one.acquisition in ("random", "check")]
    sample = order[: max(order.index(one) for one in shown) + 1]
    known = [int(pool[1][one]) for one in sample if one in items]
    assert set(shown) <= set(sample)
    assert status.drawn == len(known)
    for c, name in enumerate(CLASSES):
        assert status.prevalence[name][0] == pytest.approx(known.count(c) / len(known))
    value, low, high = status.accuracy
    assert 0.5 < low < value <= high
    value, low, high = status.rare_f1
    assert low <= value <= high


def test_a_cut_line_is_put_aside_and_told(tmp_path, pool):
    with session(tmp_path, pool[0]) as opened:
        page = opened.queries(3)
        opened.answer(page[0].item, "farm")
    with (tmp_path / ANSWERS).open("a") as file:
        file.write('{"time": 1.0, "item": ')
    with session(tmp_path, pool[0]) as again:
        assert [note for note in again.notes if CUT in note]
        assert again.queries(3)[0].answer == "farm"
        again.answer(page[1].item, "forest")
    assert (tmp_path / CUT).read_text() == '{"time": 1.0, "item": \n'
    with session(tmp_path, pool[0]) as third:
        assert not third.notes
        assert third.status().counts == {"farm": 1, "forest": 1, "quarry": 0}


def test_an_answer_is_on_the_disk_when_it_returns(tmp_path, pool):
    with session(tmp_path, pool[0]) as opened:
        item = opened.queries(1)[0].item
        opened.answer(item, "farm", seconds=2.0, tab="x")
        last = json.loads((tmp_path / ANSWERS).read_text().splitlines()[-1])
    assert last["item"] == item
    assert last["id"] == f"image-{item:03d}.png"
    assert (last["answer"], last["seconds"], last["tab"]) == ("farm", 2.0, "x")


def test_nobody_else_opens_a_session(tmp_path, pool):
    with session(tmp_path, pool[0]), pytest.raises(RunError, match="another tailora"):
        session(tmp_path, pool[0])
    session(tmp_path, pool[0]).close()


def test_phases_switch_by_themselves_and_can_be_chosen(tmp_path, pool):
    features, truth = pool
    with session(tmp_path, features, target=8) as opened:
        assert opened.status().phase == "find"
        label(opened, truth, 72, page=12)
        assert opened.status().phase == "check"
        assert {one.acquisition for one in opened.queries(6)} == {"check"}
        opened.choose_phase("refine")
        page = opened.queries(6)
        assert {one.acquisition for one in page} <= {"refine", "diverse", "random"}
        assert not opened.status().automatic
        opened.choose_phase(None)
        assert opened.status().automatic
        phases = [one.phase for one in read_journal(tmp_path) if isinstance(one, PageShown)]
    assert list(dict.fromkeys(phases)) == ["find", "refine", "check"]


def test_everything_can_be_labelled(tmp_path, pool):
    features, truth = pool[0][:30].copy(), pool[1][:30]
    features[4] = np.nan  # without data
    with session(tmp_path, features) as opened:
        seen = {one.item for one in opened.queries(15)}
        assert opened.status().left == 29
        while page := opened.advance(15):
            seen |= {one.item for one in page}
            for one in page:
                opened.answer(one.item, CLASSES[truth[one.item]])
        assert opened.status().left == 29 - opened.status().answered
    assert seen <= set(range(30)) - {4}


def test_answers_come_while_a_head_is_fitted(tmp_path, pool, monkeypatch):
    features, truth = pool
    held = threading.Event()

    def slow(*given, **options):
        held.wait(10)
        return learn(*given, **options)

    monkeypatch.setattr("tailora.labelling.session.learn", slow)
    with session(tmp_path, features, background=True) as opened:
        for one in opened.queries(25):
            opened.answer(one.item, CLASSES[truth[one.item]])
        assert opened.status().version == 0
        held.set()
        opened.wait()
        assert opened.status().version == 1


def test_one_thread_is_enough(tmp_path, pool, monkeypatch):
    """With more, a head took a minute on a machine that had other work."""

    def fit(*given, **options):
        during.append(torch.get_num_threads())
        return fit_linear_probe(*given, **options)

    def of_blas():
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    during, threads = [], torch.get_num_threads()
    monkeypatch.setattr("tailora.labelling.suggestions.fit_linear_probe", fit)
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2, user_api="blas"):
            with session(tmp_path, pool[0]) as opened:
                label(opened, pool[1], 20, page=20)
                assert of_blas() == {1}
            assert of_blas() == {2}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(during) == {1}


def test_a_run_suggests_until_answers_know_better(tmp_path, pool):
    features, truth = pool
    wrong = np.zeros((len(features), 3), np.float32)
    wrong[:, 0] = 1
    with session(tmp_path, features, first=wrong) as opened:
        assert {one.suggestion for one in opened.queries(10)} == {None, "farm"}
        label(opened, truth, 30, page=15)
        assert {"forest", "quarry"} & {one.suggestion for one in opened.queries(10)}


def test_neighbours_are_the_nearest_labelled(labelled, pool):
    folder, items, page, _ = labelled
    features = (pool[0] - pool[0].mean(axis=0)) / pool[0].std(axis=0)
    item = page[0].item
    own = features[item] @ features[items].T
    own /= np.linalg.norm(features[items], axis=1)
    expected = [items[i] for i in np.argsort(-own)[:3]]
    with session(folder, pool[0]) as opened:
        assert opened.neighbours(item, 3) == [(i, CLASSES[pool[1][i]]) for i in expected]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.answer(0, "farn"), "did you mean 'farm'"),
        (lambda s: s.answer(999, "farm"), "there is no image 999"),
        (lambda s: s.neighbours(-1), "there is no image -1"),
        (lambda s: s.choose_phase("found"), "did you mean 'find'"),
        (lambda s: s.queries(0), "at least 1"),
    ],
)
def test_wrong_calls_are_refused(tmp_path, pool, call, said):
    with session(tmp_path, pool[0]) as opened, pytest.raises(ConfigError, match=said):
        call(opened)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / SETTINGS).unlink(), "no session of labels"),
        (lambda f: (f / SETTINGS).write_text('{"format": 9}'), "format 9"),
        (lambda f: (f / SETTINGS).write_text('{"format": 1}'), "damaged"),
    ],
)
def test_folders_that_are_no_session_are_refused(tmp_path, pool, change, said):
    settings(pool[0]).write(tmp_path)
    change(tmp_path)
    with pytest.raises(RunError, match=said):
        LabellingSession.open(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"kind": "answer"}', "damaged"),
        ("no json", "damaged"),
        (
            '{"kind": "answer", "time": 1.0, "item": 900, "id": "a", "answer": "farm", '
            '"acquisition": "find"}',
            "other data",
        ),
    ],
)
def test_damaged_journals_are_refused(tmp_path, pool, line, said):
    (tmp_path / ANSWERS).write_text(line + "\n")
    with pytest.raises(RunError, match=said):
        session(tmp_path, pool[0])
