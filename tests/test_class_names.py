"""One spelling of each class name."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailora.class_names import canonical_name, merged_names
from tailora.errors import DataError


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("field ", "field"),
        ("bare\u00a0 soil", "bare soil"),
        ("\ufefffield", "field"),
        ("fi\u200beld", "field"),
        ("fore\u0302t", "for\u00eat"),
        (
            "\u0645\u06cc\u200c\u0631\u0648\u062f",
            "\u0645\u06cc\u200c\u0631\u0648\u062f",
        ),  # a joiner that is spelling
        ("a\tb\nc", "a b c"),
    ],
)
def test_spellings(given_name, name):
    assert canonical_name(given_name) == name


@pytest.mark.parametrize("name", ["a\x1b[31m", "bell\x07", "\x00", "abc\u202egpj", "del\x7f"])
def test_names_that_a_terminal_would_act_on_are_refused(name):
    with pytest.raises(DataError, match="control character"):
        canonical_name(name)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf"])))
def test_a_canonical_name_is_its_own(text):
    name = canonical_name(text)
    assert canonical_name(name) == name == name.strip()
    assert unicodedata.is_normalized("NFC", name)


def test_merged_names_are_told_and_capitals_only_noted():
    notes = merged_names(["field", "field ", "Field", "forest"])
    assert notes == (
        "'field' was spelt in 2 ways: 'field', 'field '",
        "classes that differ only in capitals: Field, field",
    )
    assert merged_names(["a", "b"]) == ()
