import base64
import io

import numpy as np
from PIL import Image

from tailora.data.bands.summary import summarise_bands
from tailora.report.scene_section import UNLABELLED, SceneLook, band_section, scene_section

VALUES = np.random.default_rng(0).gamma(4, 100, (5, 4000))


def picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))))


def test_band_summary_is_numpy_s():
    for found, band in zip(summarise_bands(VALUES), VALUES, strict=True):
        assert found.mean == band.mean()
        assert found.std == band.std()
        assert found.percentiles == tuple(np.percentile(band, (2, 50, 98)))
        assert found.counts.sum() == band.size
        assert found.counts[-1] >= (band > found.edges[-1]).sum() > 0
    assert [band.name for band in summarise_bands(VALUES)] == [f"band {i}" for i in range(1, 6)]


def test_constant_band_has_a_histogram_too():
    (flat,) = summarise_bands(np.zeros((1, 9)), ["B10"])
    assert flat.counts.sum() == 9
    assert flat.std == 0


def test_bands_are_shown_with_wavelengths_warnings_and_one_histogram_each():
    bands = summarise_bands(VALUES[:2], ["B04", "B03"], [0.6646, 0.5598])
    section = band_section(bands, "reflectance", ["every pixel is 0"])
    notes = [block for block in section.blocks if block.kind == "note"]
    assert [note.text for note in notes] == [
        "The values look like reflectance.", "Every pixel is 0.",
    ]  # fmt: skip
    (table,) = [block for block in section.blocks if block.kind == "table"]
    assert [row[1].text for row in table.rows] == ["0.665", "0.560"]
    assert table.rows[0][2].text == f"{VALUES[0].min():,.4g}"


def test_labels_colour_the_scene_where_they_lie_and_nowhere_else():
    plain = np.full((40, 60, 3), 120, dtype=np.uint8)
    labels = np.full((40, 60), UNLABELLED)
    labels[:, 32:] = 1
    section = scene_section([SceneLook("a", plain, labels, (("type", "uint16"),))], ["x", "y"], 2)
    look, overlay, _ = [block for block in section.blocks if block.kind == "picture"]
    assert picture(look.uri).shape == (40, 60, 3)
    shown = picture(overlay.uri).astype(int)
    assert abs(shown[:, :24] - 120).max() <= 3  # JPEG
    expected = 0.35 * 120 + 0.65 * np.array([0x00, 0x72, 0xB2])
    assert abs(shown[20, 50] - expected).max() <= 6
    assert "2 more scenes are not shown." in [b.text for b in section.blocks if b.kind == "note"]
