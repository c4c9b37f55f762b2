"""What runs beside the model."""

import pytest

from tailora.errors import StorageError
from tailora.inference.maps.chip_reader import behind


def test_what_fails_behind_the_model_stops_it():
    made, done = [], []

    def items():
        for item in range(9):
            made.append(item)
            yield item

    def work(item):
        if item == 1:
            raise StorageError("the disk is full")
        done.append(item)

    with pytest.raises(StorageError, match="full"):
        behind(work, items())
    assert (done, made) == ([0], [0, 1, 2])
