"""Sessions on arrays: two frequent classes and a rare one in a plane, in place of images."""

from pathlib import Path

import numpy as np

from tailora.inference.search_pool import Pool
from tailora.labelling.inputs import Start
from tailora.labelling.session import LabellingSession
from tailora.labelling.settings import Settings

CLASSES = ("farm", "forest", "quarry")
SIZES = (150, 100, 10)


class Names:
    """Images that can be named, and not read."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def id(self, i):
        return f"image-{i:03d}.png"

    def read(self, i):
        raise NotImplementedError


def blobs(seed=0):
    """Features (images, 8) around a centre for each class, and the classes (images,)."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    centres = rng.normal(size=(len(SIZES), 8)) * 2
    return (centres[truth] + rng.normal(size=(len(truth), 8))).astype(np.float32), truth


def settings(features, **changes):
    given = {
        "data": "pool", "name": "pool", "mark": "m", "images": len(features), "classes": CLASSES,
        "keys": {}, "seed": 0, "random_share": 0.15, "target": 20, "run": None, "recipe": {},
        "chip": None, "step": None, "skip_broken": False, "features": "none",
        "width": features.shape[1], "manifest": {},
    }  # fmt: skip
    return Settings(**(given | changes))


def session(folder, features, *, examples=None, first=None, background=False, **changes):
    """Open a session on features, new or with the journal that is there."""
    of = settings(features, **changes)
    of.write(Path(folder))
    pool = Pool("pool", Names(len(features)), "m")
    start = Start(examples or {}, first)
    return LabellingSession(Path(folder), of, pool, features, start, background=background)


def label(opened, truth, count, page=10):
    """Answer as an oracle does until there are so many; return the images in order."""
    items = []
    queries = opened.queries(page)
    while len(items) < count:
        for one in queries:
            opened.answer(one.item, opened.classes[truth[one.item]])
            items.append(one.item)
        queries = opened.advance(page)
    return items
