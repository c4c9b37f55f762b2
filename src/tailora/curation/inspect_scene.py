"""Summarise a scene without labels: location and band values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailora.curation.band_looks import BandLook, look_at_bands
from tailora.curation.scene_looks import SIDE, draw_look
from tailora.data.scenes.scene import Scene
from tailora.errors import DataError
from tailora.report import write_scene_page
from tailora.report.scene_section import SceneLook, band_section, scene_section


@dataclass(frozen=True)
class SceneInspection:
    """Summary of a scene without labels.

    Attributes:
        look: Quick-look and facts: size, CRS, share of no-data pixels.
        values: Values of the bands, in a sample of the pixels.
    """

    look: SceneLook
    values: BandLook

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "name": self.look.name,
            "scene": dict(self.look.facts),
            **self.values.to_json(),
        }


def inspect_scene(
    scene: Scene, *, wavelengths: Sequence[float] | None = None, new_bands: str = "zero"
) -> SceneInspection:
    """Read a scene once, coarsely.

    Args:
        scene: From `open_unlabelled`.
        wavelengths: Of its bands in µm; None uses those of the files.
        new_bands: See `tailora.backbones.stem`.

    Raises:
        DataError: It cannot be read, or no pixel is valid.
        ConfigError: Wavelengths for another number of bands, or invalid ones.
    """
    values, valid = scene.overview(SIDE)
    if not valid.any():
        raise DataError(f"scene {scene.name!r} has no valid pixel; check its nodata value")
    return SceneInspection(
        look=draw_look(scene, values, valid),
        values=look_at_bands(
            values[:, valid],
            scene.names,
            scene.wavelengths,
            wavelengths=wavelengths,
            new_bands=new_bands,
        ),
    )


def write_scene_inspection(found: SceneInspection, out: Path) -> Path:
    """Write an HTML page of the quick-look and the bands."""
    values = found.values
    sections = (
        scene_section([found.look], (), 0),
        band_section(values.bands, values.units, values.warnings),
    )
    return write_scene_page(out, name=found.look.name, sections=sections)
