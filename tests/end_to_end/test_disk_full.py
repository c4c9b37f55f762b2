"""A disk that fills up: one line, code 2, and --resume goes on once there is room."""

import resource
from contextlib import contextmanager
from importlib import import_module

import pytest

from tests.end_to_end.chips import (
    DEBLORA,
    assert_same_result,
    copy_run,
    refused,
    snapshot,
    succeed,
    tailora,
)

PLACES = {  # in the order of a run
    "decoded images": ("methods.prepare.prepare_images", "run"),
    "the run folder": ("runs.folder.write_text", "recipe.toml"),
    "features": ("features.bank.write_atomically", "features.npy"),
    "a head": ("methods.method.save_head", "head.safetensors"),
    "a checkpoint": ("train.loop.write_atomically", ".pt"),
    "an adapter": ("methods.stages.save_adapted", "adapter"),
    "metrics": ("methods.scoring.write_json", "metrics.json"),
    "predictions": ("methods.scoring.write_text", "predictions.csv"),
    "arrays of the report": ("methods.fit.write_evidence", "report.npz"),
    "the final weights": ("methods.fit.copy_saved", "head.safetensors"),
    "the report": ("methods.fit.write_report", "report.html"),
}


@contextmanager
def no_file_longer_than(size):
    """Let every write beyond so many bytes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_nothing_that_was_done(
    finished, data, quick, tmp_path, monkeypatch, plain_report
):
    words = ["fit", data, "--out", tmp_path / "run", *quick, *DEBLORA, "--resume"]
    for place, named in PLACES.values():
        module, _, name = f"tailora.{place}".rpartition(".")
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.{name}", _on_full_disk(getattr(import_module(module), name)))
            refused(tailora(*words), "no space left", named, "--resume")
        assert not [left for left in snapshot(tmp_path) if "writing" in left or ".decoding" in left]
    succeed(*words)
    assert_same_result(tmp_path / "run", finished)


def _on_full_disk(write):
    def fail(*arguments, **options):
        with no_file_longer_than(8):
            return write(*arguments, **options)

    return fail


@pytest.mark.parametrize("verb", ["predict", "evaluate", "report", "inspect"])
def test_other_verbs_keep_the_file_that_was_there(verb, finished, data, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    words = {
        "predict": [run, data],
        "evaluate": [run, data],
        "report": [run],
        "inspect": [data],
    }
    out = tmp_path / "out"
    out.write_text("what was there")
    before = snapshot(tmp_path)
    with no_file_longer_than(8):
        refused(tailora(verb, *words[verb], "--out", out, "--quiet"), "no space left")
    assert snapshot(tmp_path) == before
