"""Where the maps of one scene, or of several, are written."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, final

from tailora.errors import ConfigError
from tailora.inference.maps.map_files import MapFiles

RASTERS: Final = (".tif", ".tiff")
_POLYGONS: Final = (".gpkg",)


@final
@dataclass(frozen=True)
class MapTargets:
    """Files for one scene, or folders for any number, where each map is called like its scene.

    Args:
        out: The map of classes, `.tif`, or a folder.
        probabilities: A band of probabilities a class, or None for none.
        confidence: Probability of the class on the map, or None.
        polygons: `.gpkg`, or None.
    """

    out: Path
    probabilities: Path | None = None
    confidence: Path | None = None
    polygons: Path | None = None

    @property
    def is_folder(self) -> bool:
        """Whether maps go into a folder; a name with an ending is one only where it is there."""
        return not self.out.suffix or self.out.is_dir()

    def of(self, names: Sequence[str], *, inputs: Sequence[Path]) -> list[MapFiles]:
        """Files of each scene.

        Args:
            names: Of the scenes.
            inputs: Files and folders that are read; maps must not land among them.

        Raises:
            ConfigError: Files of two scenes or kinds have one name, or a name has a wrong ending.
        """
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        given = {kind: path for kind, path in given.items() if path is not None}
        if len(names) > 1 and not self.is_folder:
            raise ConfigError(
                f"{len(names)} scenes do not fit into {str(self.out)!r}: give --out a folder"
            )
        targets = [
            {kind: self._path(kind, path, name) for kind, path in given.items()} for name in names
        ]
        paths = [path.resolve() for target in targets for path in target.values()]
        read = {path.resolve() for path in inputs}
        for path in paths:
            if paths.count(path) > 1 or path in read or path.parent in read:
                raise ConfigError(
                    f"{str(path)!r} would be written twice, or among the files that are read; "
                    "choose another name or folder"
                )
        return [
            MapFiles(
                target["out"], target.get("probabilities"), target.get("confidence"),
                target.get("polygons"),
            )
            for target in targets
        ]  # fmt: skip

    def _path(self, kind: str, path: Path, name: str) -> Path:
        endings = _POLYGONS if kind == "polygons" else RASTERS
        if self.is_folder:
            if (path.suffix and not path.is_dir()) or path.is_file():
                raise ConfigError(
                    f"--out is a folder, so --{kind} must be one too, got {str(path)!r}"
                )
            return path / f"{name}{endings[0]}"
        if path.suffix.lower() not in endings:
            raise ConfigError(f"--{kind} must end in {' or '.join(endings)}, got {path.name!r}")
        return path
