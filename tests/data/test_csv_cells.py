"""Text that no spreadsheet runs, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailora.data.readers.table import inert, plain
from tailora.methods.scoring import csv_text


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "\rx", "'=x"])
def test_formulas_are_quoted(text):
    assert inert(text) == "'" + text


@given(st.text("'=+-@\t\rab1,"))
def test_the_way_back_is_exact(text):
    assert plain(inert(text)) == text
    assert not inert(text).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_stay_numbers():
    assert csv_text([["=a", -0.5, "b"]]) == "'=a,-0.5,b\n"
