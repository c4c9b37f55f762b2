import numpy as np
import pytest
import torch
from torch import nn

from tailora.features import extract


class Noisy(nn.Module):
    """Dropout and batch norm: both act otherwise in training mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.norm.running_mean.copy_(torch.arange(6.0))
        self.dropout = nn.Dropout(0.5)
        self.batches = []

    def forward(self, images):
        self.batches.append((len(images), self.training, torch.is_inference_mode_enabled()))
        return self.dropout(self.norm(images.flatten(1).float()))


IMAGES = torch.arange(11 * 6, dtype=torch.uint8).reshape(11, 1, 2, 3)
ROWS = np.array([10, 0, 3, 3, 7, 1, 9])


def read_batch(rows):
    return IMAGES[torch.from_numpy(rows)]


def by_hand(rows):
    """Batch norm in evaluation mode: (x - running mean) / sqrt(1 + eps); dropout does nothing."""
    return (IMAGES.flatten(1).double().numpy()[rows] - np.arange(6)) / np.sqrt(1 + 1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 64])
def test_features_equal_a_bare_loop_in_the_order_of_the_rows(batch_size):
    found = extract(Noisy(), read_batch, ROWS, batch_size=batch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(ROWS), rtol=1e-5, atol=1e-5)


def test_batches_are_as_asked_and_nothing_is_recorded_for_gradients():
    encoder = Noisy()
    extract(encoder, read_batch, ROWS, batch_size=3)
    assert encoder.batches == [(3, False, True), (3, False, True), (1, False, True)]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_and_the_running_means_stay_as_they_were(training):
    encoder = Noisy().train(training)
    extract(encoder, read_batch, ROWS)
    assert encoder.training is training
    assert encoder.norm.training is training
    assert encoder.norm.running_mean.tolist() == [0, 1, 2, 3, 4, 5]
    assert encoder.norm.num_batches_tracked == 0


def test_parts_in_another_mode_than_the_whole_stay_in_it():
    """An encoder whose batch norm is frozen is in training mode but for that layer."""
    encoder = Noisy().train()
    encoder.norm.eval()
    extract(encoder, read_batch, ROWS)
    assert (encoder.training, encoder.dropout.training, encoder.norm.training) == (
        True, True, False,
    )  # fmt: skip


def test_the_mode_comes_back_also_when_an_image_cannot_be_read():
    def broken(rows):
        raise OSError("gone")

    encoder = Noisy().train()
    with pytest.raises(OSError, match="gone"):
        extract(encoder, broken, ROWS)
    assert encoder.training


def test_a_given_array_is_filled_and_returned():
    out = np.full((len(ROWS), 6), np.nan, dtype=np.float32)
    assert extract(Noisy(), read_batch, ROWS, out=out, batch_size=2) is out
    np.testing.assert_allclose(out, by_hand(ROWS), rtol=1e-5, atol=1e-5)


def test_low_precision_features_come_as_float32():
    found = extract(nn.Flatten().to(torch.bfloat16), lambda r: read_batch(r).bfloat16(), ROWS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, IMAGES.flatten(1).numpy()[ROWS])


def test_progress_hears_of_every_image():
    told = []

    class Show:
        def __init__(self, title, total):
            told.append((title, total))

        def __enter__(self):
            return told.append

        def __exit__(self, *_):
            told.append("done")

    extract(Noisy(), read_batch, ROWS, batch_size=3, progress=Show, title="train features")
    assert told == [("train features", 7), 3, 3, 1, "done"]


def test_a_batch_is_collected_after_the_next_is_on_its_way():
    """Else a device would have nothing to do while images are read."""
    done = []

    class Show:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return lambda count: done.append(f"collected {count}")

        def __exit__(self, *_):
            pass

    def read(rows):
        done.append(f"read {len(rows)}")
        return read_batch(rows)

    extract(Noisy(), read, ROWS, batch_size=3, progress=Show)
    assert done == ["read 3", "read 3", "collected 3", "read 1", "collected 3", "collected 1"]


def test_no_rows_fill_a_given_array_and_are_an_error_without_one():
    none = np.array([], dtype=np.int64)
    out = np.empty((0, 6), dtype=np.float32)
    assert extract(Noisy(), read_batch, none, out=out) is out
    with pytest.raises(ValueError, match="no rows to encode"):
        extract(Noisy(), read_batch, none)
