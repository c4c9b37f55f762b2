"""Shares of a bank of features, with processes played one after the other."""

from types import SimpleNamespace

import numpy as np
import pytest

from tailora import processes
from tailora.features import FeatureBank, make_together

ROWS = np.array([7, 3, 11, 5, 2])
MANIFEST = {"split": "train"}


def fill(mine, out):
    out[:] = np.stack([mine, mine**2], axis=1)


def test_one_process_makes_all_rows(tmp_path):
    bank = FeatureBank(tmp_path / "bank", MANIFEST)
    alone = SimpleNamespace(num_processes=1, process_index=0, is_main_process=True)
    found = make_together(bank, ROWS, 2, fill, alone)
    np.testing.assert_array_equal(found, np.stack([ROWS, ROWS**2], axis=1))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_come_together_in_the_rows_order(count, tmp_path, monkeypatch):
    """All but the first do their share and leave; the first then finds every share."""
    bank = FeatureBank(tmp_path / "bank", MANIFEST)
    made = []

    class EnoughOfThisOneError(Exception):
        pass

    def leave(_accelerator):
        raise EnoughOfThisOneError

    def noted(mine, out):
        made.extend(mine)
        fill(mine, out)

    monkeypatch.setattr(processes, "wait", leave)
    for index in range(1, count):
        one = SimpleNamespace(num_processes=count, process_index=index, is_main_process=False)
        with pytest.raises(EnoughOfThisOneError):
            make_together(bank, ROWS, 2, noted, one)
    monkeypatch.setattr(processes, "wait", lambda _accelerator: None)
    first = SimpleNamespace(num_processes=count, process_index=0, is_main_process=True)
    found = make_together(bank, ROWS, 2, noted, first)
    np.testing.assert_array_equal(found, np.stack([ROWS, ROWS**2], axis=1))
    assert sorted(made) == sorted(ROWS)  # every row by one process only
    assert make_together(bank, ROWS, 2, None, first) is not None  # it is there now


def test_a_share_of_another_number_of_processes_is_not_taken(tmp_path):
    bank = FeatureBank(tmp_path / "bank", MANIFEST)
    assert bank.share(0, 2).manifest != bank.share(0, 3).manifest
    assert bank.share(0, 2).folder != bank.share(0, 3).folder
