import importlib.util
from pathlib import Path

import pytest
from matplotlib.figure import Figure


def beside(name):
    """The module `name` beside this file; tests are no package to import it from."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are drawn but not rendered: most of a page's time, where no figure is looked at."""
    monkeypatch.setattr(Figure, "savefig", lambda _figure, out, **_options: out.write(b"<svg/>"))


@pytest.fixture(scope="session")
def fake_run():
    return beside("fake_run")


@pytest.fixture(scope="session")
def fake_comparison():
    return beside("fake_comparison").fake_comparison
