"""Colours of classes are told apart, whatever the classes are called."""

import math

from tailora.class_colours import class_colours


def test_classes_of_no_known_name_are_unlike_those_that_have_one():
    """A blue of the palette was hardly that of water."""
    found = class_colours(["ground", "lake", "mine", "roof"])
    assert found[1] == (43, 123, 186)
    for other in (found[0], found[3]):
        assert min(math.dist(other, one) for one in (found[1], found[2])) >= 60


def test_there_are_colours_for_any_number_of_classes():
    names = ["lake", "forest", *(f"class {i}" for i in range(200))]
    assert len(set(class_colours(names))) == len(names)
