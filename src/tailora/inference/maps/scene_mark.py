"""Detect changes of a scene: the bytes of every file it is read from."""

import hashlib
from pathlib import Path

from tailora.data.rasters.files import gdal_settings, open_raster
from tailora.data.rasters.readers import reading
from tailora.data.scenes.scene import Scene
from tailora.storage import file_sha256

_MOST_DEEP = 4  # VRTs in VRTs


def scene_mark(scene: Scene) -> str:
    """Return a checksum of all bytes of a scene: rasters, sidecars, sources of VRTs.

    Size and time are not enough: an editor may keep both, and a copy changes only the time. Reading
    a file once more is cheap compared to classifying its chips.

    Args:
        scene: Opened by `open_scene`.

    Raises:
        DataError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted({band.path for band in scene.bands}):
        for file in _files(path):
            with reading(file, ""):
                digest.update(f"{file.name}\0".encode("utf-8", "surrogateescape"))
                digest.update(file_sha256(file))
    return digest.hexdigest()


def _files(path: Path, depth: int = 0) -> list[Path]:
    """Return the raster and all files that GDAL reads with it."""
    with reading(path, ""), gdal_settings(), open_raster(path) as raster:
        others = sorted({Path(name) for name in raster.files} - {path})
    found = [path]
    for other in (one for one in others if one.is_file()):
        is_vrt = other.suffix.lower() == ".vrt" and depth < _MOST_DEEP
        found += _files(other, depth + 1) if is_vrt else [other]
    return found
