import json
from dataclasses import asdict

import numpy as np
import pytest

from tailora.errors import RunError
from tailora.runs.folder import CostLedger, StageCost
from tailora.storage import write_json


@pytest.fixture
def ledger(tmp_path):
    return CostLedger(tmp_path / "stages" / "lora" / "costs.json", "lora")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""
    now = [100.0]
    monkeypatch.setattr("tailora.runs.folder.time.perf_counter", lambda: now[0])
    return now


def names(ledger):
    return [entry.name for entry in ledger.entries()]


def test_nothing_was_spent_before_the_first_stage(ledger):
    assert ledger.entries() == []
    assert not ledger.path.exists()


def test_a_stage_is_noted_when_it_ends(ledger, clock):
    with ledger.measure("train", trained_parameters=123):
        clock[0] += 12.3456
        assert ledger.entries() == []
    (entry,) = ledger.entries()
    assert entry.peak_memory_mb > 1
    assert entry == StageCost("lora: train", "lora", 12.346, entry.peak_memory_mb, 123)


def test_a_resumed_run_goes_on_with_the_ledger_of_the_one_before(ledger, clock):
    with ledger.measure("probe"):
        clock[0] += 1
    with pytest.raises(KeyboardInterrupt), ledger.measure("train"):
        raise KeyboardInterrupt
    assert names(ledger) == ["lora: probe"]
    resumed = CostLedger(ledger.path, "lora")
    with resumed.measure("train"):
        clock[0] += 2
    assert names(resumed) == ["lora: probe", "lora: train"]
    assert [entry.seconds for entry in resumed.entries()] == [1, 2]


def test_a_stage_done_again_replaces_its_entry(ledger, clock):
    for seconds in (5, 3):
        with ledger.measure("train"):
            clock[0] += seconds
    with ledger.measure("train features"):
        clock[0] += 1
    assert [(e.name, e.seconds) for e in ledger.entries()] == [
        ("lora: train", 3),
        ("lora: train features", 1),
    ]


def test_the_ledger_is_plain_json(ledger):
    with ledger.measure("probe"):
        pass
    assert json.loads(ledger.path.read_text()) == [asdict(e) for e in ledger.entries()]


def test_the_peak_holds_what_was_held_meanwhile(ledger):
    with ledger.measure("small"):
        pass
    with ledger.measure("large"):
        held = np.ones(25 * 2**20)  # 200 MB, every page touched
        del held
    with ledger.measure("small again"):
        pass
    small, large, again = (entry.peak_memory_mb for entry in ledger.entries())
    assert large > small + 150 or large >= again  # where the peak cannot start anew it only grows
    if again < large:  # where it can
        assert large > again + 150


ENTRY = {
    "name": "lora: train", "method": "lora", "seconds": 1.5, "peak_memory_mb": 3.0,
    "trained_parameters": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [3, None, {}, [3], [{}], [ENTRY | {"seconds": []}], [ENTRY | {"seconds": -1}],
     [ENTRY | {"trained_parameters": 1.5}], [{**ENTRY, "name": None}]],
)  # fmt: skip
def test_damaged_costs_are_refused(content, tmp_path):
    path = tmp_path / "lora" / "costs.json"
    write_json(path, [ENTRY])
    assert CostLedger(path, "lora").entries() == [StageCost(**ENTRY)]
    write_json(path, content)
    with pytest.raises(RunError, match=r"costs\.json' is damaged.*delete the folder.*--resume"):
        CostLedger(path, "lora").entries()
