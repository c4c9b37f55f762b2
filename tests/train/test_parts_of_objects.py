"""A batch of images with objects in parts: means are over the objects of all of them."""

from functools import cache

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora.adapters import AdapterSpec
from tailora.backbones import Encoder
from tailora.counts import ClassCounts
from tailora.data import open_shapes_dota, resize
from tailora.losses import EqualizationLoss
from tailora.tasks.detection import Detection
from tailora.train import Schedule, train
from tailora.train.base_adaptation import with_adapter
from tailora.train.objectives import Detecting, label_training
from tests.tiny import loaded_encoder

SIZE, CPU = 28, torch.device("cpu")


@cache
def shapes():
    """Some training tiles with none, one or several objects, and their pixels."""
    data = open_shapes_dota(train=40, test=12, ratio=3)
    rows = data.indices("train")
    counted = data.targets.tally().sum(axis=1)[rows]
    rows = rows[np.argsort(counted, kind="stable")][[0, 1, 2, 3, -1, -2, 12]]
    images = {int(i): torch.from_numpy(resize(data.source.read(int(i)), SIZE)) for i in rows}
    return data, rows, images


def learn(micro_batch, detector, loss, presence="focal"):
    data, rows, images = shapes()
    names = tuple(data.classes)
    task, classes = Detection(), len(names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = loss(ClassCounts(names, data.counts("train").values))
        encoder = Encoder(loaded_encoder("dinov2"), pooling="mean", mean=[0.5] * 3, std=[0.5] * 3)
        encoder = with_adapter(encoder, AdapterSpec(rank=2), seed=0, total_steps=9)
        found = task.detector(encoder.features, (4, 4), SIZE, detector=detector, presence=presence)
        training = label_training(
            encoder, nn.Linear(encoder.features, classes),
            lambda batch: torch.stack([images[int(i)] for i in batch]),
            task.targets(data, (4, 4)), loss=own, augment="none", device=CPU, rows_of=task,
            detecting=Detecting(found, data),
        )  # fmt: skip
    schedule = Schedule(2, 4, 0.01, micro_batch=micro_batch)
    steps = [
        {"loss": float(one.loss), "norm": float(one.gradient_norm)}
        | {name: float(part) for name, part in one.parts.items()}
        for one in train(
            training.module, training.objective, rows, schedule=schedule, seed=0,
            accelerator=Accelerator(),
        )
    ]  # fmt: skip
    return steps, own.received.clone() if isinstance(own, EqualizationLoss) else None


def plain(_):
    return nn.CrossEntropyLoss()


@pytest.mark.parametrize(
    "how", [("fcos", EqualizationLoss), ("rtmdet", plain), ("fcos", plain, "sampling-free")],
    ids=["fcos", "rtmdet", "sampling-free"],
)  # fmt: skip
def test_parts_make_the_step_of_the_whole_batch_whatever_objects_each_has(how):
    whole, seen = learn(None, *how)
    parts, seen_in_parts = learn(1, *how)
    assert len(whole) == 4
    for one, other in zip(whole, parts, strict=True):
        assert other == pytest.approx(one, rel=1e-3)
        if "sampling-free" in how:
            assert one["presence"] == pytest.approx(one["box"], rel=1e-5)
    if seen is not None:  # nothing is counted twice
        torch.testing.assert_close(seen_in_parts, seen, rtol=1e-3, atol=1e-5)
