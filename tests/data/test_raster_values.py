"""Gaps and tags of chips: what has no data enters no mean, and stored values become physical."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from tailora.data import PreparedImages, decode, prepare_images, resize
from tailora.data.dataset import assemble
from tailora.data.rasters.values import fill_gaps
from tailora.data.sources import FileImages
from tailora.errors import DataError
from tests.end_to_end.chips import QUICK, tailora
from tests.tiny import tiny_encoder_folder

AWAY = rasterio.Affine(1, 0, 5, 0, -1, 5)  # some place, else rasterio warns
STORED = np.array([[[1, 2, 9], [4, 5, 3]], [[10, 9, 30], [40, 50, 70]]], dtype=np.uint16)


def with_gap(band, *, gaps):
    """Band with the rounded mean of what is left where `gaps` is True."""
    values = STORED[band].astype(float)
    values[gaps] = np.round(values[~gaps].mean())
    return values


def test_nodata_is_filled_by_the_mean_of_the_others_of_its_band(tmp_path, write_tiff):
    path = write_tiff(tmp_path / "x.tif", STORED, nodata=9)
    image = decode(path)
    assert image.dtype == np.uint16
    # by hand: (1 + 2 + 4 + 5 + 3) / 5 = 3; (10 + 30 + 40 + 50 + 70) / 5 = 40
    np.testing.assert_array_equal(image[0], [[1, 2, 3], [4, 5, 3]])
    np.testing.assert_array_equal(image[1], [[10, 40, 30], [40, 50, 70]])


def test_each_band_has_its_own_nodata(tmp_path, write_tiff):
    path = write_tiff(tmp_path / "x.tif", STORED)
    bands = "".join(
        f'<PAMRasterBand band="{b}"><NoDataValue>{v}</NoDataValue></PAMRasterBand>'
        for b, v in ((1, 5), (2, 70))
    )
    (tmp_path / "x.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    image = decode(path)
    np.testing.assert_array_equal(image[0], with_gap(0, gaps=STORED[0] == 5))
    np.testing.assert_array_equal(image[1], with_gap(1, gaps=STORED[1] == 70))


@pytest.mark.parametrize("inside", [True, False])
def test_a_mask_in_or_beside_the_file_and_nodata_both_count(tmp_path, write_tiff, inside):
    path = write_tiff(tmp_path / "x.tif", STORED, nodata=9, transform=AWAY)
    mask = np.array([[0, 255, 255], [255, 255, 0]], dtype=np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    assert (tmp_path / "x.tif.msk").exists() is not inside
    image = decode(path)
    for band in range(2):
        gaps = (mask == 0) | (STORED[band] == 9)
        np.testing.assert_array_equal(image[band], with_gap(band, gaps=gaps))


def test_where_alpha_is_0_there_are_no_data(tmp_path, write_tiff):
    alpha = np.array([[0, 255, 255], [128, 255, 255]])
    pixels = np.stack([*STORED, STORED[0] * 2, alpha]).astype(np.uint8)
    path = write_tiff(tmp_path / "x.tif", pixels, photometric="RGB", alpha="yes")
    image = decode(path)
    assert len(image) == 3
    np.testing.assert_array_equal(image[1], with_gap(1, gaps=alpha == 0))
    np.testing.assert_array_equal(decode(path, keep_alpha=True)[3], alpha)


def test_nan_counts_as_no_data_where_it_is_declared(tmp_path, write_tiff):
    pixels = STORED.astype(np.float32)
    pixels[0, 0, 0] = np.nan
    image = decode(write_tiff(tmp_path / "x.tif", pixels, nodata=np.nan))
    assert image[0, 0, 0] == pytest.approx((2 + 9 + 4 + 5 + 3) / 5)
    assert np.isnan(decode(write_tiff(tmp_path / "y.tif", pixels))[0, 0, 0])


def test_scale_and_offset_make_physical_values_of_each_band(tmp_path, write_tiff):
    path = write_tiff(tmp_path / "x.tif", STORED, nodata=9, transform=AWAY)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.5, 2.0), (-1.0, 10.0)
    image = decode(path)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0], [[-0.5, 0, 0.5], [1, 1.5, 0.5]])  # gap: 3 * .5 - 1
    np.testing.assert_allclose(image[1], [[30, 90, 70], [90, 110, 150]])  # 9 is a gap: 40 * 2 + 10


def test_colours_of_a_palette_are_filled_too(tmp_path, write_tiff):
    path = write_tiff(
        tmp_path / "x.tif", np.array([[[0, 1, 2, 2]]], dtype=np.uint8), nodata=0, transform=AWAY
    )
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (255, 0, 255), 1: (10, 20, 30), 2: (40, 80, 120)})
        file.colorinterp = [ColorInterp.palette]
    image = decode(path)
    np.testing.assert_array_equal(image[:, 0, 0], [30, 60, 90])  # a third of 1, two thirds of 2
    np.testing.assert_array_equal(image[:, 0, 1], [10, 20, 30])


def test_the_mean_is_rounded_and_not_cut():
    values = np.array([[[1, 2, 2, 7]]], dtype=np.uint8)
    assert fill_gaps(values, np.array([[[False, False, False, True]]]))[0, 0, 3] == 2


@pytest.mark.parametrize(
    ("tags", "nodata", "said"),
    [
        (((0.0, 1.0), (0.0, 0.0)), None, "which is invalid"),
        (((1.0, 1.0), (np.inf, 0.0)), None, "which is invalid"),
        (None, 7, "band 2 has no pixel with data"),
    ],
)
def test_what_has_no_values_is_refused(tmp_path, write_tiff, tags, nodata, said):
    pixels = np.stack([STORED[0], np.full((2, 3), 7, dtype=np.uint16)])
    path = write_tiff(tmp_path / "x.tif", pixels, nodata=nodata, transform=AWAY)
    if tags:
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = tags
    with pytest.raises(DataError, match=said):
        decode(path)


def write_chips(folder, rng, *, gap):
    """Two classes of float chips, declared -9999 in a corner of some."""
    for code, name in enumerate(("low", "wide")):
        (folder / name).mkdir(parents=True)
        for i in range(10 + 3 * code):
            pixels = rng.normal(0.1 + 0.3 * code, 0.02, (3, 24, 24)).astype(np.float32)
            if gap and i % 3 == 0:
                pixels[:, :7, :9] = -9999
            with rasterio.open(
                folder / name / f"{i:02d}.tif", "w", driver="GTiff", width=24, height=24, count=3,
                dtype="float32", nodata=-9999, transform=AWAY,
            ) as file:  # fmt: skip
                file.write(pixels)
    return folder


def test_no_gap_enters_statistics_or_resized_pixels(tmp_path):
    folder = write_chips(tmp_path / "chips", np.random.default_rng(3), gap=True)
    paths = sorted(folder.rglob("*.tif"))
    names = [str(path.relative_to(folder)) for path in paths]
    data = assemble("x", FileImages(paths, names), [path.parent.name for path in paths])
    images = prepare_images(data, tmp_path / "p", image_size=10)
    assert isinstance(images, PreparedImages)
    assert images.value_range[0] > 0
    rows = data.indices("train")
    mean, _ = images.band_statistics(rows)
    expected = []
    for row in rows:
        with rasterio.open(paths[row]) as file:
            masked = file.read(masked=True).astype(np.float64)
        filled = masked.filled(masked.mean(axis=(1, 2)).data[:, None, None])
        expected.append(resize(filled.astype(np.float32), 10))
    np.testing.assert_allclose(mean, np.mean(expected, axis=(0, 2, 3)), rtol=1e-5)


def test_fit_and_predict_fill_alike(tmp_path):
    encoder = tiny_encoder_folder(tmp_path / "tiny", hidden=16, layers=1)
    folder = write_chips(tmp_path / "chips", np.random.default_rng(3), gap=True)
    run = tmp_path / "run"
    options = ("--method", "zero-shot", "--set", "evaluate.label_value=false")
    answer = tailora("fit", folder, "--out", run, "--backbone", encoder, *QUICK, *options)
    assert answer.code == 0, answer.err
    record = json.loads((run / "run.json").read_text())
    assert min(record["input"]["mean"]) > 0
    # the declared value is of no matter: the same chips with another one are predicted alike
    other = tmp_path / "other.tif"
    with rasterio.open(folder / "low" / "00.tif") as file:
        profile, pixels = file.profile, file.read()
    pixels[pixels == -9999] = 777
    with rasterio.open(other, "w", **profile | {"nodata": 777}) as file:
        file.write(pixels)
    answer = tailora("predict", run, folder / "low" / "00.tif", other)
    first, second = answer.out.splitlines()[1:]
    assert first.split(",")[1:] == second.split(",")[1:]
