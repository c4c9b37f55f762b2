"""Open rasters so that a file reads nothing but itself and its own sidecars.

GDAL knows some two hundred formats, and several are XML that points elsewhere: a `.tif` that holds
a VRT or WMS description reads any file of the user or asks the network. So files open with a few
formats that hold their own pixels; a VRT only by its own suffix, and only over rasters below its
folder. `TAILORA_ALLOW_REMOTE=1`, which `--allow-remote` sets, lifts this for VRTs.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader

from tailora.errors import DataError

ALLOW_REMOTE: Final = "TAILORA_ALLOW_REMOTE"

_PLAIN: Final = (
    "GTiff", "PNG", "JPEG", "HFA", "ENVI", "EHdr",
    "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID",
)  # fmt: skip
_SIDECARS: Final = (".msk", ".MSK", ".ovr", ".OVR")  # which GDAL opens as any format it knows
_HEAD: Final = 32
_MOST_XML: Final = 64 * 2**20
_DEEPEST: Final = 4  # VRTs in VRTs
_SOURCES: Final = {"sourcefilename", "sourcedataset"}
# what a mosaic, a stack of bands or a warped VRT holds; expressions, code, raw bytes, panchromatic
# sharpening, geolocation arrays and options of other formats are not among it
_ELEMENTS: Final = {
    *_SOURCES,
    "vrtdataset", "srs", "geotransform", "metadata", "mdi", "gcplist", "gcp", "vrtrasterband",
    "colorinterp", "description", "nodatavalue", "hidenodatavalue", "unittype", "offset",
    "scale", "categorynames", "category", "colortable", "entry", "histograms", "histitem",
    "histmin", "histmax", "bucketcount", "includeoutofrange", "approximate", "histcounts",
    "simplesource", "complexsource", "averagedsource", "nodatafrommasksource", "sourceband",
    "sourceproperties", "srcrect", "dstrect", "nodata", "scaleoffset", "scaleratio", "exponent",
    "srcmin", "srcmax", "dstmin", "dstmax", "clamp", "lut", "usemaskband",
    "colortablecomponent", "maskband", "overview", "overviewlist", "blockxsize", "blockysize",
    "maskvaluethreshold", "remappedvalue", "gdalwarpoptions", "warpmemorylimit", "resamplealg",
    "workingdatatype", "option", "bandlist", "bandmapping", "srcnodatareal", "srcnodataimag",
    "dstnodatareal", "dstnodataimag", "srcalphaband", "dstalphaband", "cutline",
    "cutlineblenddist", "transformer", "approxtransformer", "basetransformer", "maxerror",
    "genimgprojtransformer", "reprojecttransformer", "sourcesrs", "targetsrs", "sourcecrs",
    "targetcrs", "srcgeotransform", "srcinvgeotransform", "dstgeotransform",
    "dstinvgeotransform", "reprojectiontransformer", "options",
}  # fmt: skip
_KINDS: Final = {"", "vrtsourcedrasterband", "vrtwarpeddataset", "vrtwarpedrasterband"}

# catch_warnings swaps the filters of the whole process, so two threads must not do it at once
_opening: Final = threading.Lock()


def allow_remote() -> bool:
    """Whether the user lets VRTs read whatever they name, the network too."""
    return os.environ.get(ALLOW_REMOTE, "") == "1"


def gdal_settings(**more: Any) -> rasterio.Env:
    """Settings of GDAL under which rasters are read, as a context.

    Sidecars are looked for by name: listing the folder at each open makes a folder of n files cost
    n * n. Files on the network do not exist unless `allow_remote`.

    Args:
        more: Further settings.
    """
    closed = {} if allow_remote() else {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"}
    return rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE", **closed, **more)


def open_raster(path: Path) -> Any:
    """Open a raster with rasterio, without the warning that chips have no place on Earth.

    Args:
        path: GeoTIFF, JPEG 2000, ERDAS Imagine, ENVI, ESRI BIL, PNG or JPEG, by their content; or
            a VRT by its suffix.

    Raises:
        DataError: It is of another format, or it or a sidecar points to files it may not read.
        rasterio.errors.RasterioError: It cannot be read.
    """
    is_vrt = path.suffix.lower() == ".vrt"
    if is_vrt and not allow_remote():
        status = path.stat()
        own = path.resolve()  # GDAL too takes sources from where a linked VRT really lies
        _check_vrt(own, own.parent, status.st_mtime_ns, status.st_size)
    return _open(path, ("VRT",) if is_vrt else _PLAIN)


def _open(path: Path, drivers: tuple[str, ...]) -> Any:
    _check_sidecars(path)
    try:
        # image chips have no place on Earth, and need none here
        with gdal_settings(), quietly(NotGeoreferencedWarning):
            raster = DatasetReader(path, driver=list(drivers))
    except RasterioIOError as error:
        if path.is_file() and _head(path).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise DataError(
                f"{str(path)!r} holds XML, not an image; a VRT is opened by the suffix .vrt only"
            ) from error
        raise
    if "OVERVIEW_FILE" in raster.tags(ns="OVERVIEWS") and not allow_remote():
        raster.close()
        raise DataError(
            f"{str(path)!r} keeps its overviews in a file of another name, which is not opened; "
            "remove OVERVIEW_FILE from its .aux.xml, or trust it with --allow-remote"
        )
    return raster


@contextmanager
def quietly(kind: type[Warning]) -> Iterator[None]:
    """Open a file without warnings of a kind."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", kind)
        yield


def _check_sidecars(path: Path) -> None:
    """Reject masks and overviews beside the file that are no TIFF: they could be a VRT."""
    for suffix in _SIDECARS:
        beside = path.with_name(path.name + suffix)
        if beside.is_file():
            try:
                _open(beside, ("GTiff",)).close()
            except RasterioIOError as error:
                raise DataError(
                    f"{str(beside)!r} beside the image is no TIFF, so it is not read; remove it"
                ) from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


@lru_cache(maxsize=1024)
def _check_vrt(path: Path, root: Path, _changed: int, _size: int, depth: int = 0) -> None:
    """Raise unless a VRT only names rasters below a folder, and computes nothing."""
    if depth > _DEEPEST:
        raise DataError(f"{str(path)!r} is a VRT more than {_DEEPEST} VRTs deep; flatten it")
    for element in _elements(path):
        name = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        kind = attributes.get("subclass", "").casefold()
        if name not in _ELEMENTS or kind not in _KINDS:
            shown = element.tag if name not in _ELEMENTS else attributes["subclass"]
            raise DataError(
                f"{str(path)!r} is a VRT with {shown!r}, which is not read: a VRT may put rasters "
                "together and warp them; write it as GeoTIFF, or trust it with --allow-remote"
            )
        if name in _SOURCES:
            relative = attributes.get("relativetovrt", "0")
            _check_source(path, root, (element.text or "", relative), depth)


def _elements(path: Path) -> list[ElementTree.Element]:
    if path.stat().st_size > _MOST_XML:
        raise DataError(f"{str(path)!r} is a VRT of over {_MOST_XML // 2**20} MB; divide it")
    text = path.read_bytes()
    try:
        if b"<!" in text.replace(b"<!--", b"") or b"\0" in text:
            raise DataError(f"{str(path)!r} is a VRT with a document type or bytes of 0; save anew")
        return list(ElementTree.fromstring(text.decode("utf-8")).iter())
    except (ElementTree.ParseError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r} is no VRT: {error}") from error


def _local(name: str) -> str:
    """Name as GDAL compares it, which knows neither namespaces nor case."""
    return name.rpartition("}")[2].casefold()


def _check_source(vrt: Path, root: Path, source: tuple[str, str], depth: int) -> None:
    text, relative = source
    named = f"VRT {str(vrt)!r} names {text!r}"
    said = "its rasters must lie below its own folder; move them there, or use --allow-remote"
    if relative not in ("0", "1") or text.startswith("/vsi") or ":" in text or "<" in text:
        raise DataError(f"{named}, which is no plain path; {said}")
    found = (vrt.parent / text if relative == "1" else Path(text)).resolve()
    if not found.is_relative_to(root):
        raise DataError(f"{named}; {said}")
    if not found.is_file():
        raise DataError(f"{named}, but there is no such file; {said}")
    if found.suffix.lower() == ".vrt":
        status = found.stat()
        return _check_vrt(found, root, status.st_mtime_ns, status.st_size, depth + 1)
    if b"\0" not in _head(found):  # GDAL opens it as any format it knows, XML by its text
        raise DataError(f"{named}, whose content may be text; write it as GeoTIFF")
    _open(found, _PLAIN).close()
    return None
