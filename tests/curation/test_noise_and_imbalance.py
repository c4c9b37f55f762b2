"""What is said of noise and imbalance, with sums by hand."""

import pytest

from tailora.curation.noise_and_imbalance import class_to_do, noise_by_group
from tailora.curation.result import CuratedClass


def made(name, group, images, mislabelled, *, judged=None, doubted=0, imbalance=1.0, estimated=0.0):
    return CuratedClass(
        name=name, group=group, images=images, judged=images if judged is None else judged,
        doubted=doubted, mislabelled=mislabelled, missed=0.0, confused=None, forgotten=0.0,
        unlearnt=0, outliers=0, copies=0, imbalance=imbalance, effective=images / 2,
        estimated=estimated, to_do="",
    )  # fmt: skip


CLASSES = (
    made("sea", "head", 400, 0.05, doubted=30, estimated=420.0),
    made("ice", "middle", 100, 0.2, judged=90, doubted=20, imbalance=4.0, estimated=95.0),
    made("reef", "tail", 20, 0.3, doubted=9, imbalance=20.0, estimated=12.0),
    made("lava", "tail", 8, None, judged=0, imbalance=50.0, estimated=8.0),
)


def test_noise_of_a_group_is_the_share_of_its_judged_labels():
    head, middle, tail, every = noise_by_group(CLASSES)
    assert [one.name for one in (head, middle, tail, every)] == ["head", "middle", "tail", "all"]
    assert head.mislabelled == pytest.approx(0.05)
    assert tail.mislabelled == pytest.approx(0.3)  # of reef alone
    assert every.mislabelled == pytest.approx((0.05 * 400 + 0.2 * 90 + 0.3 * 20) / 510)
    assert (every.classes, every.images, every.judged, every.doubted) == (4, 528, 510, 59)
    assert (tail.imbalance, every.imbalance) == (50, 50)
    assert (every.effective, every.estimated) == (264, 535)


def test_a_group_is_told_what_to_do_about_noise_and_about_imbalance():
    head, middle, tail, _ = noise_by_group(CLASSES)
    assert head.to_do.startswith("few labels look wrong (5.0 %); sizes differ little (at most 1.0")
    assert middle.to_do.startswith("about 18 of 90 labels may be wrong (20.0 %): look at")
    assert "has 50 times the images of the smallest" in tail.to_do
    (alike, _) = noise_by_group([made("bog", "head", 50, 0.4)])
    assert "tells these classes apart badly, so 40.0 % wrong labels are no estimate" in alike.to_do
    (lava, _) = noise_by_group(CLASSES[3:])
    assert lava.to_do.startswith("its labels cannot be judged; the largest class has 50 times")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((3, 0.05, 0.05, 2.0), "nothing urgent (3 doubtful labels)"),
        ((1, 0.1, 0.0, 9.9), "look at 1 doubtful label"),
        ((0, 0.1, 0.0, 1.0), "nothing urgent"),  # none to look at
        ((5, 0.3, 0.1, 10.0), "look at 5 doubtful labels, look for it under other labels, "
         "find more images of it"),
        ((0, None, None, 1.0), "label images of it from elsewhere, by which its labels can be "
         "judged"),
        ((2, 0.2, None, 1.0), "look at 2 doubtful labels"),
        ((9, 0.4, 0.5, 1.0), "compare with ice by eye: alike to the encoder"),
    ],
)  # fmt: skip
def test_a_class_is_told_what_it_needs(given, said):
    assert class_to_do(*given, confused="ice") == said
