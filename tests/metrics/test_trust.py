import pytest
from scipy.stats import binomtest

from tailora.metrics.trust import ClassEvidence, TrustLimits, judge, share_limit

GOOD = {"f1_interval": (0.9, 1.0), "n_test": 50, "n_units": 50}


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
    assert judge(ClassEvidence(interval, n_test, n_units)).verdict == expected


def test_the_two_limits_can_be_moved():
    evidence = ClassEvidence((0.4, 0.6), 5, 5)
    assert judge(evidence, TrustLimits(f1=0.4, support=5)).verdict == "trusted"
    assert judge(evidence, TrustLimits(f1=0.41, support=5)).verdict == "weak"
    assert judge(evidence, TrustLimits(f1=0.4, support=6)).verdict == "untested"


@pytest.mark.parametrize(("hits", "units"), [(0, 10), (3, 12), (45, 50), (1, 1), (20, 20)])
def test_the_limit_of_a_share_is_that_of_clopper_and_pearson(hits, units):
    expected = binomtest(hits, units).proportion_ci(0.95, method="exact").high
    assert share_limit(hits / units, units) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"covered": 1.0}, ()),
        # 0.82 of 50 units may be 0.9 by chance (limit 0.914), 0.76 may not (limit 0.869)
        ({"covered": 0.82}, ()),
        ({"covered": 0.76}, ("coverage",)),
        # the same share in few places proves nothing
        ({"covered": 0.76, "n_units": 8}, ()),
        # right in 0.8 of 20 units: at most 0.943 by chance; 0.1 more may be stated
        ({"stated": 0.99, "right": 0.8, "predicted_units": 20}, ()),
        ({"stated": 0.99, "right": 0.6, "predicted_units": 20}, ("calibration",)),
        # the places where it is predicted count, not those where it is true: 0.6 of 5 may be 0.947
        ({"stated": 0.99, "right": 0.6, "predicted_units": 5}, ()),
        ({"stated": 0.99, "right": 0.6, "predicted_units": 50, "n_units": 5}, ("calibration",)),
        # not sure enough is no reason to distrust
        ({"stated": 0.3, "right": 1.0, "predicted_units": 400}, ()),
        ({"stated": 0.9, "right": 0.5, "predicted_units": 90, "covered": 0.5}, None),
    ],
)
def test_calibration_and_coverage_fail_only_beyond_chance(change, failed):
    found = judge(ClassEvidence(**(GOOD | change)))
    expected = ("calibration", "coverage") if failed is None else failed
    assert found.failed == expected
    assert found.verdict == ("weak" if expected else "trusted")
    for name in expected:
        assert f"{name}: " in found.reason


def test_the_reason_says_every_check_that_failed_and_by_how_much():
    evidence = ClassEvidence((0.2, 0.9), 50, 50, 0.9, 0.5, 40, 0.5)
    assert judge(evidence).reason == (
        "interval: F1 may be as low as 0.20, below 0.50; "
        "calibration: mean confidence 90 %, but precision 50 %; "
        "coverage: prediction sets contain it in 50 % of its test samples, target 90 %"
    )
    assert judge(ClassEvidence((0.9, 1), 9, 9)).reason == "support: 9 test samples, fewer than 10"
    assert judge(ClassEvidence((0.9, 1), 1, 1)).reason == "support: 1 test sample, fewer than 10"
    one_place = judge(ClassEvidence((0.9, 1), 90, 1)).reason
    assert one_place == "support: 90 test samples from one place only"
    assert "not checked: calibration, coverage" in judge(ClassEvidence(**GOOD)).reason


def test_the_limits_of_calibration_and_coverage_can_be_moved():
    sure = ClassEvidence(**GOOD, stated=0.99, right=0.6, predicted_units=20, covered=0.7)
    assert judge(sure, TrustLimits(overconfidence=1.0, coverage=0.5)).failed == ()


def test_a_test_without_places_says_so():
    whole = {**GOOD, "stated": 0.9, "right": 0.9, "predicted_units": 30, "covered": 0.95}
    assert "not checked" not in judge(ClassEvidence(**whole)).reason
    one = judge(ClassEvidence(**whole, has_places=False))
    assert (one.verdict, one.failed) == ("trusted", ())
    assert one.reason.endswith("not checked: places (the images have no groups)")


def test_what_is_not_found_cannot_be_trusted():
    lost = judge(ClassEvidence(**(GOOD | {"ap_interval": (0.1, 0.6)})))
    assert (lost.verdict, lost.failed) == ("weak", ("interval",))
    assert lost.reason == "interval: AP50 may be as low as 0.10, below 0.50"
    assert judge(ClassEvidence(**(GOOD | {"ap_interval": (0.5, 0.9)}))).verdict == "trusted"


def test_many_samples_of_one_place_are_no_test():
    found = judge(ClassEvidence(None, 176, 1))
    assert (found.verdict, found.reason) == (
        "untested",
        "support: 176 test samples from one place only",
    )
    assert judge(ClassEvidence(None, 0, 0)).reason == "support: 0 test samples, fewer than 10"
