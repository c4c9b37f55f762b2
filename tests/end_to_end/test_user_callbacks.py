"""Callbacks of one's own in `tailora.fit`, and trackers from the command line."""

import sys
import tomllib
from types import ModuleType

import pytest

import tailora as package
from tests.end_to_end.chips import DEBLORA, assert_same_result, refused, succeed, tailora
from tests.end_to_end.test_history import WHAT_IS_TRAINED

SETTINGS = {
    "method": "deblora", "probe.views": 1,
    "data.image_size": 14, "deblora.clusters": 4, "train.epochs": 2, "adapter.rank": 2,
    "probe.l2": [1.0, 0.1], "evaluate.replicates": 40, "train.batch_size": 16,
}  # fmt: skip


class Heard(package.Callback):
    def __init__(self):
        self.events = []

    def on_stage_begin(self, event):
        self.events.append(("begin", event.stage, event.done))

    def on_step(self, event):
        self.events.append(("step", event.stage, event.step))

    def on_epoch_end(self, event):
        self.events.append(("epoch", event.stage, event.epoch))

    def on_stage_end(self, event):
        self.events.append(("end", event.stage, event.step))


def fit(data, encoder, **options):
    recipe = package.Recipe().override(SETTINGS)
    return package.fit(package.open_dataset(data), recipe=recipe, backbone=str(encoder), **options)


def test_callbacks_are_called_for_all_that_is_trained_and_change_nothing(
    finished, data, encoder, tmp_path, plain_report
):
    heard = Heard()
    fit(data, encoder, out=tmp_path / "run", callbacks=[heard])
    assert_same_result(tmp_path / "run", finished)
    for stage, steps in WHAT_IS_TRAINED:
        own = [event for event in heard.events if event[1] == stage]
        assert [n for kind, _, n in own if kind == "step"] == list(range(1, steps + 1))
        assert own[0] == ("begin", stage, 0)
        assert own[-1] == ("end", stage, steps)
        epochs = 2 if stage == "lora" else 6
        assert [n for kind, _, n in own if kind == "epoch"] == list(range(1, epochs + 1))


def test_a_run_that_a_callback_ends_is_resumed(finished, data, encoder, tmp_path, plain_report):
    class Broken(package.Callback):
        def on_epoch_end(self, event):
            if event.epoch == 2:
                raise OSError("disk of the callback is full")

    with pytest.raises(OSError, match="disk of the callback"):
        fit(data, encoder, out=tmp_path / "run", callbacks=[Broken()])
    heard = Heard()
    fit(data, encoder, out=tmp_path / "run", callbacks=[heard], resume=True)
    assert_same_result(tmp_path / "run", finished)
    assert heard.events[0] == ("begin", "lora", 5)  # from the end of the first epoch


@pytest.mark.parametrize("callback", [Heard, print, "wandb"])
def test_what_is_no_callback_is_refused(callback, data, encoder, tmp_path):
    with pytest.raises(package.errors.ConfigError, match=r"must be tailora\.Callback objects"):
        fit(data, encoder, out=tmp_path / "run", callbacks=[callback])
    assert not (tmp_path / "run").exists()


@pytest.fixture
def tensorboard(monkeypatch):
    """A stand-in that writes down what it is told."""
    told = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, global_step):
            assert isinstance(value, int | float)
            told.append((name, global_step))

        def flush(self):
            pass

        def close(self):
            told.append("finished")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("accelerate.utils.is_tensorboard_available", lambda: True)
    return told


def test_a_tracker_is_told_of_every_step_and_may_be_left_out_on_resuming(
    tensorboard, finished, data, quick, tmp_path, monkeypatch, plain_report
):
    from tests.end_to_end.test_resume import Watch

    words = ["fit", data, "--out", tmp_path / "run", *quick, *DEBLORA]
    with monkeypatch.context() as patch:
        patch.setattr("tailora.cli.fit.bars", lambda **_quiet: Watch("adapting to labels", 8))
        assert tailora(*words, "--tracker", "tensorboard").code == 130
    losses = [entry for entry in tensorboard if entry[0] == "lora/loss"]
    assert losses == [("lora/loss", step) for step in range(1, 6)]
    assert tensorboard[-1] == "finished"
    recipe = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text("utf-8"))
    assert recipe["train"]["trackers"] == ["tensorboard"]
    told = len(tensorboard)
    succeed(*words, "--resume")
    assert len(tensorboard) == told
    assert_same_result(tmp_path / "run", finished)


def test_trackers_that_cannot_be_used_are_refused(data, quick, tmp_path, refuse, monkeypatch):
    words = ("fit", data, "--out", tmp_path / "run", *quick, "--tracker")
    refuse(*words, "tensorbord", says=["did you mean 'tensorboard'?"])
    monkeypatch.setattr("accelerate.utils.is_wandb_available", lambda: False)
    refuse(*words, "wandb", says=["pip install 'tailora[wandb]'"])


def test_a_comparison_has_no_tracker(data, quick, tmp_path):
    words = ("compare", data, "--out", tmp_path / "out", *quick)
    answer = tailora(*words, "--set", 'train.trackers=["tensorboard"]')
    refused(answer, "train.trackers logs a single run of `tailora fit`")
