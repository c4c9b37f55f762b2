"""Features that are kept: those of the weights that lie in the stage's folder now."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tailora.adapters import AdapterSpec
from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts, Groups
from tailora.data import Dataset
from tailora.features import extract
from tailora.methods.job import Job
from tailora.methods.stages import stage_features
from tailora.progress import silent
from tailora.runs.folder import RunFolder
from tailora.runs.input_format import InputFormat
from tailora.runs.weights import load_adapted, save_adapted
from tailora.tasks import Classification
from tailora.train.base_adaptation import with_adapter
from tests.methods.planted_job import NoPictures

SPLITS = np.array(["train"] * 16 + ["val"] * 4 + ["test"] * 4)


@pytest.fixture
def job(chips, tiny_encoder, tmp_path):
    images, labels = chips
    shuffled = np.random.default_rng(3).permutation(labels)
    data = Dataset("chips", NoPictures(24), shuffled, ("a", "b", "c"), SPLITS, to_learn=False)
    return Job(
        recipe=Recipe(), task=Classification(), dataset=data, fingerprint=data.fingerprint,
        images=SimpleNamespace(batch=lambda rows: images[torch.from_numpy(rows)]),
        input=InputFormat(14, "crop", (1, 2, 3), "uint8", 1.0, (0.0,) * 3, (1.0,) * 3),
        loaded=SimpleNamespace(sha256="0" * 64), encoder=tiny_encoder,
        counts=ClassCounts(("a", "b", "c"), (10, 4, 2)), groups=Groups((0,), (1,), (2,)),
        folder=RunFolder(tmp_path), accelerator=Accelerator(), progress=silent,
    )  # fmt: skip


def save_lora(job, value):
    """Save an adapter that adds something: a fresh one adds nothing."""
    adapted = with_adapter(job.encoder, AdapterSpec(rank=2), seed=0, total_steps=1)
    for name, weights in adapted.named_parameters():
        if ".lora_B." in name:
            weights.data.fill_(value)
    save_adapted(adapted, job.folder.stage("lora"))


def test_features_of_other_weights_are_made_anew(job):
    found = []
    for value in (0.01, 0.3):
        save_lora(job, value)
        found.append(np.array(stage_features(job, "lora", "val")))
        encoder = load_adapted(job.encoder, job.folder.stage("lora"))
        expected = extract(encoder, job.read_batch, job.dataset.indices("val"))
        np.testing.assert_allclose(found[-1], expected, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_features_of_the_same_weights_are_read_and_not_made_again(job):
    save_lora(job, 0.01)
    first = np.array(stage_features(job, "lora", "train"))

    def refuse(_rows):
        raise AssertionError("an image was read")

    blind = replace(job, images=SimpleNamespace(batch=refuse))
    np.testing.assert_array_equal(stage_features(blind, "lora", "train"), first)
