"""One small encoder, one set of chips and one finished run for all end-to-end tests."""

from functools import cache
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import typer.main
from matplotlib.figure import Figure

from tailora.report import style
from tailora.storage import write_text
from tests.end_to_end.chips import (
    DEBLORA,
    QUICK,
    refused,
    snapshot,
    succeed,
    tailora,
    write_chips,
)
from tests.tiny import tiny_encoder_folder

RENDER, DRAW = Figure.savefig, style._svg
DRAWN = {  # runs, comparisons and maps of every kind, so that each figure meets what it may meet
    "test_assess", "test_bands", "test_compare", "test_early_stopping", "test_fit", "test_history",
    "test_looking_verbs", "test_second_task", "test_segment", "test_views",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _apart_from_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / ".hub-cache"))
    monkeypatch.setenv("TAILORA_CACHE", str(tmp_path / ".tailora-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Threads only wait for each other on tensors this small, most of all beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _verbs_are_built_once():
    """A process of a user's runs one command; here each would build all verbs and options again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Figures are not rendered, which takes most of a page's time, nor in fixtures.

    Where pages are beside the point they are not drawn either: a fifth of the time of a fit.
    """
    with pytest.MonkeyPatch.context() as patch:
        if Path(__file__).parent in item.path.parents:  # this hook is asked of all tests
            patch.setattr(Figure, "savefig", lambda _figure, out, **_options: out.write(b"<svg/>"))
            if item.path.stem not in DRAWN:
                patch.setattr(style, "_svg", lambda _draw, _inches: b"<svg/>")
        return (yield)


@pytest.fixture
def rendered(monkeypatch):
    """Pages as a user gets them."""
    with_figures(monkeypatch)


def with_figures(patch):
    """Draw and render them, in fixtures too."""
    patch.setattr(Figure, "savefig", RENDER)
    patch.setattr(style, "_svg", DRAW)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """Folder of a DINOv2 of one block: 14 px, 3 bands, 16 wide."""
    return tiny_encoder_folder(tmp_path_factory.mktemp("encoder") / "tiny", hidden=16, layers=1)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder of class folders, five classes from 62 to 5 chips."""
    return write_chips(tmp_path_factory.mktemp("data") / "chips")


@pytest.fixture(scope="session")
def quick(encoder):
    """Options that make any fit quick."""
    return ("--backbone", encoder, *QUICK)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, data, quick):
    """A finished debLoRA run that nobody may change."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        with_figures(patch)
        succeed("fit", data, "--out", run, *quick, *DEBLORA)
    return run


@pytest.fixture
def plain_report(monkeypatch):
    """Spare the figures, half a second a run, where the report is beside the point."""

    def write(folder, **_):
        write_text(folder / "report.html", "<p>report</p>")

    monkeypatch.setattr("tailora.methods.fit.write_report", write)


@pytest.fixture
def plain_page(monkeypatch):
    """Spare the figures of a comparison where its page is beside the point."""
    monkeypatch.setattr(
        "tailora.experiments.compare.write_method_comparison",
        lambda _, page: write_text(page, "<p>comparison</p>"),
    )


@pytest.fixture
def refuse(tmp_path):
    """Run a command that must be refused and leave every file as it was."""

    def run(*words, says=()):
        before = snapshot(tmp_path)
        refused(tailora(*words), *says)
        assert snapshot(tmp_path) == before

    return run
