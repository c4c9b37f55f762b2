"""Trackers: what is logged under which step, and what a missing or failing one says.

The packages are stand-ins that write down what they are told: none of the real ones is needed.
"""

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
from accelerate import Accelerator

from tailora.errors import ConfigError, RunError
from tailora.train import EpochEnd, LoggedStep, ValidationScore
from tailora.train.trackers import TRACKERS, check_trackers, open_trackers

STEP = LoggedStep("lora", 1, 5, 0.5, 0.01, 2.0, 3.0, 40.0, {"diversity": -0.25})
END = EpochEnd("lora", 1, 3, 5, 3.5, ValidationScore("macro_f1", 0.75, 1))
SCALARS = {
    "lora/loss": 0.5, "lora/lr": 0.01, "lora/gradient_norm": 2.0, "lora/images_per_second": 40.0,
    "lora/epoch": 1, "lora/parts/diversity": -0.25,
}  # fmt: skip
VALIDATION = {"lora/validation_macro_f1": 0.75}


@pytest.fixture(autouse=True)
def _accelerate():
    Accelerator()  # whose trackers ask for it


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Lay a package that `find_spec` and its metadata find, and put a module in its place."""

    def lay(name, **content):
        site = tmp_path / "site"
        about = site / f"{name}-9.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n")
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(str(site))
        module = ModuleType(name)
        module.__spec__ = SimpleNamespace(name=name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    return lay


def tell(name, folder):
    check_trackers([name])
    with open_trackers([name, name], folder) as [tracker]:
        tracker.on_step(STEP)
        tracker.on_epoch_end(END)


def test_wandb_has_an_axis_for_the_steps_of_each_stage(stand_in, tmp_path):
    """Its own step may not go back, and the next stage begins with 1 again."""
    said = []

    def init(**options):
        said.append(options)
        return SimpleNamespace(
            log=lambda values, step: said.append((values, step)),
            finish=lambda: said.append("finished"),
        )

    stand_in("wandb", init=init)
    tell("wandb", tmp_path / "run-7")
    assert said == [
        {"project": "tailora", "name": "run-7"},
        ({**SCALARS, "lora/step": 5}, None),
        ({**VALIDATION, "lora/step": 5}, None),
        "finished",
    ]


def test_mlflow_gets_metrics_of_the_stages_own_step(stand_in, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    said = []
    stand_in(
        "mlflow",
        search_experiments=lambda **_: [],
        create_experiment=lambda **options: said.append(options["name"]) or "1",
        start_run=lambda **options: said.append(options["run_name"]),
        log_metrics=lambda values, step: said.append((values, step)),
        end_run=lambda: said.append("finished"),
    )
    tell("mlflow", tmp_path / "run-7")
    assert said == ["tailora", "run-7", (SCALARS, 5), (VALIDATION, 5), "finished"]


def test_tensorboard_writes_into_the_run_folder(stand_in, tmp_path, monkeypatch):
    said = []

    class SummaryWriter:
        def __init__(self, folder):
            said.append(folder)

        def add_scalar(self, name, value, global_step):
            said.append((name, value, global_step))

        def flush(self):
            pass

        def close(self):
            said.append("finished")

    stand_in("tensorboard")
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tell("tensorboard", tmp_path / "run-7")
    expected = [(name, value, 5) for name, value in {**SCALARS, **VALIDATION}.items()]
    assert said == [str(tmp_path / "run-7" / "tensorboard"), *expected, "finished"]


def test_a_tracker_that_fails_is_named_and_the_others_are_finished(stand_in, tmp_path):
    finished = []

    def log(*_, **__):
        raise OSError("server gone\nsince noon")

    run = SimpleNamespace(log=log, finish=lambda: finished.append(True))
    stand_in("wandb", init=lambda **_: run)
    with pytest.raises(RunError) as caught, open_trackers(["wandb"], tmp_path) as [tracker]:
        tracker.on_step(STEP)
    expected = "tracker 'wandb' failed (server gone since noon): mend it, or leave it out of "
    assert str(caught.value) == expected + "train.trackers, and add --resume"
    assert finished == [True]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_names_its_extra(name, monkeypatch):
    monkeypatch.setattr(f"accelerate.utils.is_{name}_available", lambda: False)
    with pytest.raises(ConfigError, match=rf"pip install 'tailora\[{name}\]'"):
        check_trackers([name])


def test_an_unknown_tracker_gets_the_nearest():
    with pytest.raises(ConfigError, match="unknown tracker 'tensorbord'; did you mean 'tensorb"):
        check_trackers(["tensorbord"])
