"""The trials of one row: kept by optuna in a file of the run folder, proposed by its TPE.

All randomness of a trial follows from the seed and the trial's number, and only finished trials are
kept: a study that broke off proposes again what it was at, and one with more trials begins as the
shorter one did.

Reference: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD
2019; Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011 (TPE).
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tailora.errors import ConfigError
from tailora.experiments.tuning_space import Dimension, Range
from tailora.runs.comparison import Trial
from tailora.storage import guard_disk

INSTALL: Final = 'pip install "tailora[tune]"'

_RANDOM_FIRST: Final = 10  # trials before the sampler learns from them
_DRAWS: Final = 50  # until a space counts as used up


class Study:
    """Trials of one row, read from and added to `study.log` in a folder.

    Args:
        folder: Made when absent.
        name: As shown by optuna's dashboard.
        space: What is chosen from.
        seed: Decides what is proposed, together with a trial's number.

    Raises:
        ConfigError: optuna is absent.
        StorageError: The folder cannot be written.
    """

    def __init__(self, folder: Path, name: str, space: Sequence[Dimension], seed: int) -> None:
        self._optuna = import_optuna()
        self._space, self._seed = space, seed
        path = folder / "study.log"
        with guard_disk(path):
            folder.mkdir(parents=True, exist_ok=True)
            _drop_half_a_line(path)
            storages = self._optuna.storages
            backend = storages.journal.JournalFileBackend(str(path))
            self._study = _create(
                self._optuna,
                storage=storages.JournalStorage(backend),
                study_name=name,
                load_if_exists=True,
            )

    def trials(self) -> list[Trial]:
        """All trials so far, in order."""
        return [
            Trial(found.number, found.user_attrs["values"], found.value, **_facts(found.user_attrs))
            for found in self._study.get_trials(deepcopy=False)
        ]

    def propose(self, own: Mapping[str, Any]) -> dict[str, Any] | None:
        """Values that have not been tried; None once there are none left.

        Args:
            own: The recipe's own values by key, which were the first.
        """
        done = self.trials()
        tried = [dict(own), *(trial.values for trial in done)]
        for draw in range(_DRAWS):
            values = self._draw(len(done), draw)
            if values not in tried:
                return values
        return None

    def add(self, trial: Trial, own: Mapping[str, Any]) -> None:
        """Keep a finished trial.

        Args:
            trial: Its number is that of the trials before it.
            own: The recipe's own values by key.

        Raises:
            StorageError: It cannot be written.
        """
        states = self._optuna.trial.TrialState
        params = {**own, **trial.values}
        inside = all(d.holds(params[d.key]) for d in self._space)  # the recipe's own may not be
        found = self._optuna.trial.create_trial(
            state=states.COMPLETE if trial.value is not None else states.FAIL,
            value=trial.value,
            params={d.key: params[d.key] for d in self._space} if inside else {},
            distributions=self._distributions() if inside else {},
            user_attrs={
                "values": trial.values, "validation": trial.validation, "seconds": trial.seconds,
                "reason": trial.reason,
            },
        )  # fmt: skip
        with guard_disk(Path("study.log")):
            self._study.add_trial(found)

    def _draw(self, number: int, draw: int) -> dict[str, Any]:
        """What TPE proposes after the trials so far; after a repetition, any values."""
        seed = int(np.random.SeedSequence([self._seed, number, draw]).generate_state(1)[0])
        samplers = self._optuna.samplers
        sampler = (
            samplers.RandomSampler(seed=seed)
            if draw
            else samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_FIRST)
        )
        known = _create(self._optuna, sampler=sampler)
        known.add_trials([t for t in self._study.get_trials(deepcopy=False) if t.params])
        params = known.ask(self._distributions()).params
        return {d.key: d.short(params[d.key]) for d in self._space}

    def _distributions(self) -> dict[str, Any]:
        return {d.key: _distribution(self._optuna, d) for d in self._space}


def import_optuna() -> Any:
    """Import optuna.

    Raises:
        ConfigError: It is absent.
    """
    try:
        importlib.import_module("optuna.storages.journal")
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError(f"--tune needs optuna, which cannot be imported; {INSTALL}") from error


def _create(optuna: Any, **options: Any) -> Any:
    """Make or open a study, without optuna's own messages."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", **options)
    finally:
        optuna.logging.set_verbosity(level)


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    kinds = optuna.distributions
    if not isinstance(dimension, Range):
        return kinds.CategoricalDistribution(dimension.values)
    kind = kinds.IntDistribution if dimension.is_whole else kinds.FloatDistribution
    return kind(dimension.low, dimension.high, log=dimension.log)


def _facts(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kept[name] for name in ("validation", "seconds", "reason")}


def _drop_half_a_line(path: Path) -> None:
    """A process that was killed while it wrote leaves a line that would spoil the next one."""
    if path.is_file():
        kept = path.read_bytes()
        if not kept.endswith(b"\n"):
            path.write_bytes(kept[: kept.rfind(b"\n") + 1])
