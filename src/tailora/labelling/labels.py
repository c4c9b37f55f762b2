"""The labels of a session, with what is needed to write them elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from tailora.data.sources import file_path
from tailora.errors import DataError
from tailora.inference.search_pool import Pool, SceneWindows
from tailora.labelling.inputs import open_again
from tailora.labelling.journal import Answered, read_journal
from tailora.labelling.replay import Replay, replay
from tailora.labelling.settings import Settings, read_settings


@final
@dataclass(frozen=True, eq=False)
class SessionLabels:
    """Labels of a session, read while nobody or somebody else has it open.

    Args:
        settings: Of the session.
        pool: Its images.
        state: What its journal says.
    """

    settings: Settings
    pool: Pool
    state: Replay

    @cached_property
    def labelled(self) -> Mapping[int, Answered]:
        """The answer of each image that has a class, by its number, ascending."""
        labels = self.state.labels(self.settings.classes)
        return {item: self.state.answers[item] for item in sorted(labels)}

    @property
    def windows(self) -> SceneWindows | None:
        """The windows, if a scene was labelled."""
        return self.pool.windows

    def path(self, item: int) -> Path | None:
        """Return the file of an image, if it has one of its own."""
        found = file_path(self.pool.source, item)
        return None if found is None else found.resolve()

    def scene_file(self) -> Path:
        """Return the file of the scene that was labelled."""
        if self.windows is None:
            raise TypeError("these are no windows of a scene")
        return self.windows.scene.bands[0].path.resolve()


def session_labels(folder: str | Path, *, data: str | Path | None = None) -> SessionLabels:
    """Read the labels of a session.

    Args:
        folder: Of the session.
        data: Where its images are now, if they have moved.

    Raises:
        RunError: There is no session, it is damaged, or the data are others.
        DataError: Nothing is labelled, or the data cannot be opened.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    state = replay(read_journal(folder))
    if not state.labels(settings.classes):
        raise DataError(f"the session {str(folder)!r} has no label yet: nothing to write")
    return SessionLabels(settings, open_again(settings, data), state)
