"""What a raster may make GDAL read: itself and its sidecars, and for a VRT rasters below it."""

import shutil
import socket
import threading

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine
from rasterio.crs import CRS

from tailora.data.images import decode
from tailora.data.rasters.files import ALLOW_REMOTE, gdal_settings, open_raster
from tailora.data.rasters.readers import Grid
from tailora.errors import DataError
from tests.data.scenes import traced, write_scene
from tests.end_to_end.chips import tailora

PIXELS = traced(1, 8)


@pytest.fixture
def folder(tmp_path):
    """A folder with a raster in it, and one beside it that is nobody's business."""
    write_scene(tmp_path / "in" / "part.tif", PIXELS)
    write_scene(tmp_path / "out" / "secret.tif", PIXELS + 500)
    return tmp_path / "in"


def vrt(source, *, relative="1", tag="SourceFilename", band="", inside="", root=""):
    return (
        f'<VRTDataset rasterXSize="8" rasterYSize="8"{root}><VRTRasterBand dataType="UInt16" '
        f'band="1"{band}>{inside}<SimpleSource><{tag} relativeToVRT="{relative}">{source}</{tag}>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def read(path):
    with gdal_settings(), open_raster(path) as raster:
        return raster.read()


def test_a_vrt_reads_rasters_below_its_folder_however_they_are_named(folder):
    (folder / "deep").mkdir()
    shutil.copy(folder / "part.tif", folder / "deep" / "other.tif")
    for source, relative in (
        ("part.tif", "1"),
        ("deep/other.tif", "1"),
        ("deep/../part.tif", "1"),
        (str(folder / "part.tif"), "0"),
    ):
        (folder / "m.vrt").write_text(vrt(source, relative=relative))
        np.testing.assert_array_equal(read(folder / "m.vrt"), PIXELS)
    (folder / "outer.vrt").write_text(vrt("m.vrt"))
    np.testing.assert_array_equal(read(folder / "outer.vrt"), PIXELS)


@pytest.mark.parametrize(
    ("epsg", "pixel", "north", "metres"),
    [
        (32633, 10.0, 5e6, 10.0),
        (2263, 3.0, 2e5, 3 * 1200 / 3937),  # US survey feet
        # a degree is 111.195 km along a meridian, and half of that along the parallel of 60 degrees
        (4326, 1e-5, 60.0, 1.11195 * np.sqrt(0.5)),
    ],
)
def test_pixels_have_a_size_on_the_ground(epsg, pixel, north, metres):
    grid = Grid(CRS.from_epsg(epsg), Affine(pixel, 0, 10.0, 0, -pixel, north), 20, 30)
    assert grid.ground_sampling == pytest.approx(metres, rel=1e-5)
    assert Grid(CRS(), grid.transform, 20, 30).ground_sampling is None


def test_what_gdal_builds_is_read(folder):
    with rasterio.open(folder / "part.tif") as raster:
        rasterio.shutil.copy(raster, folder / "copy.vrt", driver="VRT")
        with rasterio.vrt.WarpedVRT(raster, crs="EPSG:32632") as warped:
            rasterio.shutil.copy(warped, folder / "warped.vrt", driver="VRT")
            meant = warped.read()
    np.testing.assert_array_equal(read(folder / "copy.vrt"), PIXELS)
    np.testing.assert_array_equal(read(folder / "warped.vrt"), meant)


RAW = '<ImageOffset>0</ImageOffset><SourceFilename relativeToVRT="1">part.tif</SourceFilename>'
CODE = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionCode>x</PixelFunctionCode>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (vrt("../out/secret.tif"), "below its own folder"),
        (vrt("../out/secret.tif", tag="sourcefilename"), "below its own folder"),
        (vrt("../out/secret.tif", root=' xmlns="urn:x"'), "below its own folder"),
        (vrt("{out}/secret.tif", relative="0"), "below its own folder"),
        (vrt("link.tif"), "below its own folder"),
        (vrt("link/secret.tif"), "below its own folder"),
        (vrt("nested.vrt"), "below its own folder"),
        (vrt("loop.vrt"), "nests VRTs"),
        (vrt("/vsicurl/http://127.0.0.1:1/x.tif", relative="0"), "not a plain path"),
        (vrt('NETCDF:"part.tif":x'), "not a plain path"),
        (vrt("part.tif", relative=" 1"), "not a plain path"),
        (vrt("&lt;VRTDataset/&gt;"), "not a plain path"),
        (vrt("text.tif"), "may be text"),
        (vrt("missing.tif"), "does not exist"),
        (vrt("part.tif", band=' subClass="VRTDerivedRasterBand"', inside=CODE), "Derived"),
        (vrt("part.tif", inside=CODE), "PixelFunctionType"),
        (vrt("part.tif", band=' subClass="VRTRawRasterBand"', inside=RAW), "VRTRawRasterBand"),
        (vrt("part.tif", root=' subClass="VRTPansharpenedDataset"'), "VRTPansharpenedDataset"),
        (vrt("part.tif", inside="<OpenOptions/>"), "OpenOptions"),
        ('<!DOCTYPE a [<!ENTITY b "../out/secret.tif">]>' + vrt("&b;"), "document type"),
        ("no XML", "is not a VRT"),
    ],
)
def test_a_vrt_that_reaches_elsewhere_or_computes_is_refused(folder, text, said):
    (folder / "link.tif").symlink_to(folder.parent / "out" / "secret.tif")
    (folder / "link").symlink_to(folder.parent / "out")
    (folder / "nested.vrt").write_text(vrt("../out/secret.tif"))
    (folder / "loop.vrt").write_text(vrt("loop.vrt"))
    (folder / "text.tif").write_text(vrt("../out/secret.tif"))
    (folder / "m.vrt").write_text(text.replace("{out}", str(folder.parent / "out")))
    with pytest.raises(DataError, match=said):
        read(folder / "m.vrt")


def test_the_user_may_trust_a_vrt(folder, monkeypatch):
    (folder / "m.vrt").write_text(vrt("../out/secret.tif"))
    monkeypatch.setenv(ALLOW_REMOTE, "1")
    np.testing.assert_array_equal(read(folder / "m.vrt"), PIXELS + 500)


@pytest.mark.parametrize("name", ["scene.tif", "scene.img", "scene.jp2", "chip.png", "odd.xyz"])
@pytest.mark.parametrize("start", ["", " \n", "\ufeff"])
def test_xml_under_another_name_is_refused(folder, name, start):
    (folder / name).write_text(start + vrt("part.tif"))
    with pytest.raises(DataError, match="contains XML"):
        read(folder / name)


def test_a_linked_vrt_reads_beside_where_it_lies(folder):
    (folder / "m.vrt").write_text(vrt("part.tif"))
    (folder.parent / "l.vrt").symlink_to(folder / "m.vrt")
    np.testing.assert_array_equal(read(folder.parent / "l.vrt"), PIXELS)


@pytest.mark.parametrize("suffix", [".msk", ".ovr", ".msk.ovr", ".MSK"])
def test_sidecars_that_are_no_tiff_are_refused(folder, suffix):
    if suffix == ".msk.ovr":
        shutil.copy(folder / "part.tif", folder / "part.tif.msk")
    (folder / f"part.tif{suffix}").write_text(vrt("../out/secret.tif"))
    with pytest.raises(DataError, match="XML"):
        read(folder / "part.tif")
    with pytest.raises(DataError, match="XML"):
        decode(folder / "part.tif")


@pytest.mark.parametrize("inside", [True, False])
def test_overviews_in_a_file_of_another_name_are_refused(folder, inside):
    if inside:
        with rasterio.open(folder / "part.tif", "r+") as raster:
            raster.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="../out/secret.tif")
    else:
        (folder / "part.tif.aux.xml").write_text(
            '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">../out/secret.tif'
            "</MDI></Metadata></PAMDataset>"
        )
    with pytest.raises(DataError, match="OVERVIEW_FILE"):
        read(folder / "part.tif")


def test_no_request_goes_out(folder):
    asked = []

    def listen(server):
        while True:
            try:
                asked.append(server.accept()[0].close())
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"http://127.0.0.1:{server.getsockname()[1]}/x.tif"
        thread = threading.Thread(target=listen, args=(server,), daemon=True)
        thread.start()
        (folder / "a.tif").write_text(vrt(f"/vsicurl/{where}", relative="0"))
        (folder / "b.vrt").write_text(vrt(f"/vsicurl/{where}", relative="0"))
        wms = f'<GDAL_WMS><Service name="WMS"><ServerUrl>{where}?</ServerUrl></Service></GDAL_WMS>'
        (folder / "c.tif").write_text(wms)
        for name in ("a.tif", "b.vrt", "c.tif"):
            answer = tailora("inspect", folder / name)
            assert answer.code == 2, answer
            assert answer.err.count("\n") == 1
        with gdal_settings(), pytest.raises(rasterio.errors.RasterioIOError):
            rasterio.open(f"/vsicurl/{where}")
        assert asked == []
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_the_command_line_trusts_only_when_told(folder, monkeypatch):
    monkeypatch.setenv(ALLOW_REMOTE, "0")  # so that it is put back
    (folder / "m.vrt").write_text(
        vrt("../out/secret.tif").replace(
            "<VRTRaster",
            "<SRS>EPSG:32633</SRS><GeoTransform>330000,10,0,5822000,0,-10</GeoTransform><VRTRaster",
            1,
        )
    )
    assert "--allow-remote" in tailora("inspect", folder / "m.vrt").err
    answer = tailora("inspect", folder / "m.vrt", "--json", "--allow-remote")
    assert answer.code == 0, answer.err
    assert '"min": 500' in answer.out
