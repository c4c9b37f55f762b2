import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fake_run():
    """The module `fake_run.py` beside this file; tests are no package to import it from."""
    spec = importlib.util.spec_from_file_location(
        "fake_run", Path(__file__).with_name("fake_run.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
