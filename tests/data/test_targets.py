"""Data sets whose images have more than one label each."""

import numpy as np
import pytest

from tailora.data import SelectedTargets, assemble_targets, make_imbalanced, parse_imbalance
from tailora.errors import ConfigError, DataError
from tests.methods.planted_job import NoPictures

# decisions of three classes in ten images; the last has none
TALLY = np.array([
    [9, 0, 0], [8, 1, 0], [9, 2, 0], [9, 0, 1], [5, 4, 0], [7, 0, 2], [9, 1, 0], [6, 3, 3],
    [9, 5, 1], [0, 0, 0],
])  # fmt: skip
NAMES = ("field", "water", "mine")


class Counted:
    """Targets that say what they hold, and nothing else."""

    def __init__(self, tally, salt=0):
        self.counts, self.salt = tally, salt

    def __len__(self):
        return len(self.counts)

    def read(self, i):
        return np.repeat(np.arange(3), self.counts[i]) if self.counts[i].any() else None

    def tally(self):
        return self.counts

    def mark(self, i):
        return int(self.counts[i].sum()), self.salt


def opened(tally=TALLY, *, salt=0, **options):
    source = NoPictures(len(tally))
    return assemble_targets("masks", source, Counted(tally, salt), classes=NAMES, **options)


def test_classes_are_counted_in_decisions():
    data = opened()
    for split in ("train", "val", "test"):
        expected = TALLY[data.splits == split].sum(axis=0)
        assert data.counts(split).values == tuple(expected)
    assert sum(data.counts("train").values) > (data.splits == "train").sum()


def test_every_class_is_learnt_and_tested_and_what_is_unlabelled_is_learnt_from():
    for seed in range(20):
        data = opened(seed=seed)
        assert min(data.counts("train").values) > 0
        assert min(data.counts("test").values) > 0
        assert data.splits[-1] == "train"
    assert any((opened(seed=1).splits != opened(seed=seed).splits).any() for seed in range(9))


def test_no_group_is_divided():
    groups = [f"scene {i // 2}" for i in range(10)]
    data = opened(groups=groups)
    for group in set(groups):
        assert len(set(data.splits[data.groups == group])) == 1


def test_an_image_is_called_after_its_rarest_class():
    assert opened().labels.tolist() == [0, 1, 1, 2, 1, 2, 1, 2, 2, -1]


def test_selected_images_keep_their_own_targets():
    data = opened(splits=["train"] * 4 + ["test"] * 4 + ["train", "train"])
    some = data.select(np.array([7, 3, 8]))
    assert isinstance(some.targets, SelectedTargets)
    np.testing.assert_array_equal(some.targets.tally(), TALLY[[7, 3, 8]])
    np.testing.assert_array_equal(some.targets.read(1), [0] * 9 + [2])
    assert some.targets.mark(0) == (12, 0)
    assert len(some.targets) == 3


def test_other_annotations_are_other_data():
    assert opened(salt=0).fingerprint == opened(salt=0).fingerprint
    assert opened(salt=0).fingerprint != opened(salt=1).fingerprint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"splits": ["train"] * 10}, "have no test sample"),
        ({"splits": ["test"] * 9 + ["train"]}, "have no training sample"),
        ({"splits": ["train"] * 9}, "differ in number"),
        ({"tally": TALLY[:, :2]}, "10 images and 3 classes, but its annotations count 10 x 2"),
        ({"tally": np.zeros((3, 3), int), "to_learn": False, "splits": []}, "differ in number"),
    ],
)
def test_what_cannot_be_learnt_is_refused(change, says):
    with pytest.raises(DataError, match=says):
        opened(**change)


def test_images_with_several_labels_are_not_thinned():
    with pytest.raises(ConfigError, match="one label each"):
        make_imbalanced(opened(), parse_imbalance("step:ratio=2"), seed=0)
