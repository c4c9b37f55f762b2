"""Look at a scene that has no labels yet: where it lies, what its bands hold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tailora.backbones.stem import StemRow
from tailora.data.band_summary import BandSummary, summarise_bands
from tailora.data.scene import Scene
from tailora.data.value_ranges import check_values, guess_units
from tailora.errors import DataError
from tailora.pipeline.inspect import stem_rows
from tailora.pipeline.scene_looks import look_at
from tailora.report import write_scene_page
from tailora.report.band_section import band_section
from tailora.report.scene_section import SceneLook, scene_section

_SIDE = 640  # pixels a side that statistics are taken from


@dataclass(frozen=True)
class SceneInspection:
    """What is known of a scene by itself.

    Attributes:
        look: Quick-look and facts: size, coordinates, share without data.
        bands: What values each band holds, in a sample of its pixels.
        units: What these values seem to be.
        warnings: What looks wrong with them.
        stem: What `backbone.stem=by-wavelength` would do, where wavelengths are known.
    """

    look: SceneLook
    bands: tuple[BandSummary, ...]
    units: str
    warnings: tuple[str, ...]
    stem: list[StemRow] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Give a JSON object."""
        return {
            "name": self.look.name,
            "scene": dict(self.look.facts),
            "units": self.units,
            "bands": [band.to_json() for band in self.bands],
            "warnings": list(self.warnings),
            "stem": [asdict(row) for row in self.stem],
        }


def inspect_scene(
    scene: Scene, *, wavelengths: Sequence[float] | None = None, new_bands: str = "zero"
) -> SceneInspection:
    """Read a scene once, coarsely.

    Args:
        scene: What `open_unlabelled` gives.
        wavelengths: Of its bands in µm; None takes what the files say.
        new_bands: See `tailora.backbones.stem`.

    Raises:
        DataError: It cannot be read, or no pixel has data.
        ConfigError: Wavelengths of another number of bands, or nonsense ones.
    """
    values, valid = scene.overview(_SIDE)
    if not valid.any():
        raise DataError(f"scene {scene.name!r} has no pixel with data; check its nodata value")
    sample = values[:, valid]
    bands = summarise_bands(sample, scene.names, scene.wavelengths)
    return SceneInspection(
        look=look_at(scene, None),
        bands=bands,
        units=guess_units(sample, scene.names),
        warnings=check_values(sample[None, :, :, None], [band.name for band in bands]),
        stem=stem_rows(wavelengths or scene.wavelengths, len(values), new_bands),
    )


def write_scene_inspection(found: SceneInspection, out: Path) -> Path:
    """Write an HTML page of the quick-look and the bands."""
    sections = (
        scene_section([found.look], (), 0),
        band_section(found.bands, found.units, found.warnings),
    )
    return write_scene_page(out, name=found.look.name, sections=sections)
