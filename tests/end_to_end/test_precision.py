"""`compute.precision=auto` from the command line: the run holds what it became."""

import tomllib

import pytest

from tests.end_to_end.chips import QUICK, succeed


@pytest.fixture(params=["fp32", "bf16"])
def fastest(request, monkeypatch):
    monkeypatch.setattr("tailora.methods.prepare.fastest_precision", lambda: request.param)
    return request.param


def test_a_run_holds_the_precision_that_it_used(fastest, data, encoder, plain_report, tmp_path):
    run = tmp_path / "run"
    words = ("fit", data, "--out", run, "--backbone", encoder, *QUICK, "--method", "zero-shot")
    succeed(*words, "--set", "compute.precision=auto")
    recipe = tomllib.loads((run / "recipe.toml").read_text("utf-8"))
    assert recipe["compute"]["precision"] == fastest
    succeed("predict", run, data / "007" / "000.png", "--quiet")


def test_an_unknown_precision_is_refused(data, refuse):
    refuse("fit", data, "--set", "compute.precision=fast", says=["'fast'", "auto"])
