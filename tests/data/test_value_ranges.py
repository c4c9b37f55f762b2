import numpy as np
import pytest

from tailora.data.bands.value_ranges import check_values, guess_units

RNG = np.random.default_rng(0)
REFLECTANCE = RNG.uniform(0.01, 0.6, (8, 3, 6, 6))
NAMES = ("B04", "B03", "B02")


@pytest.mark.parametrize(
    ("values", "names", "units"),
    [
        ((REFLECTANCE * 255).astype(np.uint8), NAMES, "8-bit values (0 to 255)"),
        (REFLECTANCE.astype(np.float32), NAMES, "reflectance (0 to 1)"),
        ((REFLECTANCE * 10000).astype(np.uint16), NAMES, "reflectance times 10,000"),
        ((REFLECTANCE * 60000).astype(np.uint16), NAMES, "digital numbers (16 bits)"),
        ((REFLECTANCE * 40 - 30).astype(np.float32), ("VV", "VH", "HH"), "decibels"),
        (REFLECTANCE * 3, ("VV", "VH", "HH"), "radar amplitude or power, linear"),
        (REFLECTANCE - 0.3, NAMES, "values around zero, already normalised"),
    ],
)
def test_units_are_told_by_type_and_range(values, names, units):
    assert guess_units(values, names) == units


@pytest.mark.parametrize(
    "values",
    [
        (REFLECTANCE * 255).astype(np.uint8),
        REFLECTANCE,
        (REFLECTANCE * 10000).astype(np.uint16),
        REFLECTANCE * 10000,
    ],
)
def test_nothing_is_said_of_what_is_right(values):
    assert check_values(values, NAMES) == ()


def constant():
    values = REFLECTANCE.copy()
    values[:, 1] = 0
    return values


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (REFLECTANCE * 10000 / 255, {}, "reflectance times 10,000 divided by 255"),
        (REFLECTANCE / 255, {}, "divided by 255 or 10,000 more than once"),
        (REFLECTANCE.round().astype(np.uint16), {}, "divided by 255 or 10,000 and then rounded"),
        (constant(), {}, r"constant bands carry no information: B03 \(0\)"),
        (np.zeros((8, 3, 6, 6)), {}, "every pixel is 0: do these images contain only no-data"),
        (REFLECTANCE, {"mean": [1370, 1184, 1120]}, r"other units.*B04 \(given 1370, found 0\.3"),
    ],
)
def test_usual_mistakes_are_named(values, options, message):
    import re

    found = check_values(values, NAMES, **options)
    assert len(found) == 1
    assert re.search(message, found[0])


def test_given_means_of_the_right_units_are_fine():
    assert check_values(REFLECTANCE, NAMES, mean=[0.2, 0.4, 0.3]) == ()
