"""A job whose features are planted: what it does with them can be compared with numbers by hand."""

import numpy as np
from accelerate import Accelerator
from torch import nn

from tailora.backbones import ModuleEncoder
from tailora.config.recipe import Recipe
from tailora.counts import make_groups
from tailora.data import Dataset
from tailora.methods import method
from tailora.methods.deblora import method as deblora
from tailora.methods.job import Job
from tailora.progress import silent
from tailora.runs.folder import RunFolder
from tailora.tasks import Classification


class NoPictures:
    """An image source of so many images that nobody reads."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def read(self, i):
        raise AssertionError(f"image {i} was read")

    def id(self, i):
        return f"image-{i}"


def planted_job(monkeypatch, folder, planted, names, **options):
    """Make a job of these features, without images, encoder or weights.

    Args:
        monkeypatch: Of the test.
        folder: Of the run, made when absent.
        planted: Features (rows, width) and class indices (rows,) of train, val and test.
        names: Of the classes.
        options: Recipe keys with `__` for the dot.
    """
    labels = [rows[1] for rows in planted.values()]
    splits = np.repeat(list(planted), [len(part) for part in labels])
    every = np.concatenate(labels)
    data = Dataset("planted", NoPictures(len(every)), every, tuple(names), splits)

    def features(_job, _stage, split, *_encoder, **_turn):
        return planted[split][0]

    for module in (method, deblora):
        monkeypatch.setattr(module, "stage_features", features)
    monkeypatch.setattr(method, "load_adapted", lambda *_: None)
    return Job(
        recipe=Recipe().override({k.replace("__", "."): v for k, v in options.items()}),
        task=Classification(), dataset=data, fingerprint=data.fingerprint, images=None,
        input=None, loaded=None,
        encoder=ModuleEncoder(nn.Identity(), features=planted["train"][0].shape[1]),
        counts=data.counts(), groups=make_groups(data.counts()),
        folder=RunFolder(folder), accelerator=Accelerator(), progress=silent,
    )  # fmt: skip
