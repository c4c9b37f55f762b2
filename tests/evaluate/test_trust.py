import pytest

from tailora.evaluate.trust import verdict


@pytest.mark.parametrize(
    ("interval", "n_test", "n_units", "expected"),
    [
        ((0.5, 0.7), 10, 10, "trusted"),
        ((0.499, 1.0), 10, 10, "weak"),
        ((0.9, 1.0), 9, 9, "untested"),
        ((0.9, 1.0), 500, 1, "untested"),
        ((0.9, 1.0), 500, 2, "trusted"),
        (None, 0, 0, "untested"),
    ],
)
def test_a_class_is_trusted_only_if_its_test_can_support_it(interval, n_test, n_units, expected):
    assert verdict(interval, n_test, n_units) == expected


def test_the_two_limits_can_be_moved():
    assert verdict((0.4, 0.6), 5, 5, min_f1=0.4, min_test=5) == "trusted"
    assert verdict((0.4, 0.6), 5, 5, min_f1=0.41, min_test=5) == "weak"
    assert verdict((0.4, 0.6), 5, 5, min_f1=0.4, min_test=6) == "untested"
