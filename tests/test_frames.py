from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from tailora import frames
from tailora.errors import ConfigError
from tailora.frames import Rows, frame


@dataclass(frozen=True)
class Inner:
    low: float
    high: float | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    ends: Inner | None
    by: dict[str, Inner] = field(default_factory=dict)
    many: tuple[int, ...] = (1, 2)


def test_fields_of_fields_are_columns_and_lists_are_left_out():
    rows = Rows([Outer("a", Inner(1.0, 2.0), {"x": Inner(3.0)}), Outer("b", None)])
    wanted = pd.DataFrame(
        {
            "name": ["a", "b"], "ends.low": [1.0, None], "ends.high": [2.0, None],
            "by.x.low": [3.0, None], "by.x.high": [np.nan, np.nan],
        }
    )  # fmt: skip
    pd.testing.assert_frame_equal(rows.to_frame(), wanted)


def test_rows_are_a_tuple_in_every_other_way():
    rows = Rows([Inner(1.0), Inner(2.0)])
    assert rows == (Inner(1.0), Inner(2.0))
    assert rows[1].low == 2.0
    assert len(rows) == 2


def test_a_table_without_rows_keeps_its_columns():
    assert list(frame([], ("a", "b")).columns) == ["a", "b"]
    assert len(Rows().to_frame()) == 0


def test_without_pandas_one_line_says_what_to_do(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(frames, "import_module", absent)
    with pytest.raises(ConfigError, match=r"^to_frame needs pandas.*pip install pandas$"):
        Rows([Inner(1.0)]).to_frame()
