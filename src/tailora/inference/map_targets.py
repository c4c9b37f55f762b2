"""Output files for the maps of one or several scenes."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, final

from tailora.errors import ConfigError
from tailora.inference.maps.map_files import MapFiles
from tailora.inference.maps.vector_files import VECTOR_DRIVERS

RASTERS: Final = (".tif", ".tiff")
_POLYGONS: Final = (".gpkg",)


@final
@dataclass(frozen=True)
class MapTargets:
    """Files for one scene, or folders for any number, where each map is named after its scene.

    Args:
        out: The class map, `.tif`, or a folder.
        probabilities: File with one probability band per class, or None.
        confidence: Probability of the mapped class, or None.
        polygons: `.gpkg`, or None.
        doubt: Where the map may be wrong, in two bands, or None.
    """

    out: Path
    probabilities: Path | None = None
    confidence: Path | None = None
    polygons: Path | None = None
    doubt: Path | None = None

    @property
    def is_folder(self) -> bool:
        """Whether maps go into a folder; a name with an extension must exist as a folder."""
        return not self.out.suffix or self.out.is_dir()

    def of(self, names: Sequence[str], *, inputs: Sequence[Path]) -> list[MapFiles]:
        """Return the files of each scene.

        Args:
            names: Scene names.
            inputs: Input files and folders; maps must not overwrite them.

        Raises:
            ConfigError: Two files have the same name, or a name has the wrong extension.
        """
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        given = {kind: path for kind, path in given.items() if path is not None}
        if len(names) > 1 and not self.is_folder:
            raise ConfigError(
                f"{len(names)} scenes cannot be written to {str(self.out)!r}: set --out to a folder"
            )
        targets = [
            {kind: self._path(kind, path, name) for kind, path in given.items()} for name in names
        ]
        _check_free([path for target in targets for path in target.values()], inputs)
        return [
            MapFiles(
                target["out"], target.get("probabilities"), target.get("confidence"),
                target.get("polygons"), target.get("doubt"),
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


def vector_targets(out: Path, names: Sequence[str], *, inputs: Sequence[Path]) -> list[Path]:
    """Return the file of objects of each scene; in a folder they are GeoPackages named after them.

    Args:
        out: A file, or a folder.
        names: Scene names.
        inputs: Input files and folders, which must not be overwritten.

    Raises:
        ConfigError: The file has another extension than those of `VECTOR_DRIVERS`, is one for
            several scenes, or would overwrite another.
    """
    if out.suffix and not out.is_dir():
        if out.suffix.lower() not in VECTOR_DRIVERS:
            raise ConfigError(
                f"objects are written as {' or '.join(VECTOR_DRIVERS)}, got {out.name!r}"
            )
        if len(names) > 1:
            raise ConfigError(
                f"objects of {len(names)} scenes cannot be written to {str(out)!r}: set --out to a "
                "folder"
            )
        targets = [out]
    else:
        targets = [out / f"{name}.gpkg" for name in names]
    _check_free(targets, inputs)
    return targets


def _check_free(targets: Sequence[Path], inputs: Sequence[Path]) -> None:
    paths, read = [path.resolve() for path in targets], {path.resolve() for path in inputs}
    for path in paths:
        if paths.count(path) > 1 or path in read or path.parent in read:
            raise ConfigError(
                f"{str(path)!r} would be written twice, or overwrite an input; choose another name "
                "or folder"
            )
