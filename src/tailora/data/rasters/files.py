"""Open rasters so that a file can read only itself and its own sidecars.

GDAL supports some two hundred formats, several of which are XML that points elsewhere: a `.tif`
containing a VRT or WMS description can read any file of the user or access the network. So only a
few formats that contain their own pixels are opened; a VRT only by its extension, and only over
rasters below its folder. `TAILORA_ALLOW_REMOTE=1`, set by `--allow-remote`, lifts this for VRTs.
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
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from tailora.errors import DataError

ALLOW_REMOTE: Final = "TAILORA_ALLOW_REMOTE"

_PLAIN: Final = (
    "GTiff", "PNG", "JPEG", "HFA", "ENVI", "EHdr",
    "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID",
)  # fmt: skip
_SIDECARS: Final = (".msk", ".MSK", ".ovr", ".OVR")  # which GDAL opens as any format it supports
_DAMAGED: Final = (
    "IReadBlock failed",
    "TIFFRead",
    "TIFFFillTile",
    "TIFFFillStrip",
    "Decode failed",
)
_HEAD: Final = 32
_MOST_XML: Final = 64 * 2**20
_DEEPEST: Final = 4  # VRTs in VRTs
_SOURCES: Final = {"sourcefilename", "sourcedataset"}
# elements of a mosaic, a band stack or a warped VRT; not expressions, code, raw bytes,
# pansharpening, geolocation arrays or options of other formats
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

# catch_warnings swaps the filters of the whole process, so only one thread at a time may use it
_opening: Final = threading.Lock()


def allow_remote() -> bool:
    """Return whether VRTs may read any source they name, including the network."""
    return os.environ.get(ALLOW_REMOTE, "") == "1"


def gdal_settings(**more: Any) -> rasterio.Env:
    """Return a context with the GDAL settings for reading rasters.

    Sidecars are looked up by name: listing the folder at each open costs n * n for n files. Files
    on the network do not exist unless `allow_remote`.

    Args:
        more: Further settings.
    """
    closed = {} if allow_remote() else {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"}
    return rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE", **closed, **more)


def open_raster(path: Path) -> Any:
    """Open a raster with rasterio, without the warning that chips are not georeferenced.

    Args:
        path: GeoTIFF, JPEG 2000, ERDAS Imagine, ENVI, ESRI BIL, PNG or JPEG, by content; or a VRT
            by extension.

    Raises:
        DataError: It has another format, or it or a sidecar refers to files it may not read.
        rasterio.errors.RasterioError: It cannot be read.
    """
    is_vrt = path.suffix.lower() == ".vrt"
    if is_vrt and not allow_remote():
        status = path.stat()
        own = path.resolve()  # GDAL also resolves sources relative to where a linked VRT really is
        _check_vrt(own, own.parent, status.st_mtime_ns, status.st_size)
    return _open(path, ("VRT",) if is_vrt else _PLAIN)


def _open(path: Path, drivers: tuple[str, ...]) -> Any:
    _check_sidecars(path)
    try:
        # image chips are not georeferenced and need not be
        with gdal_settings(), quietly(NotGeoreferencedWarning):
            raster = DatasetReader(path, driver=list(drivers))
    except RasterioIOError as error:
        if path.is_file() and _head(path).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise DataError(
                f"{str(path)!r} contains XML, not an image; a VRT must have the extension .vrt"
            ) from error
        raise
    if "OVERVIEW_FILE" in raster.tags(ns="OVERVIEWS") and not allow_remote():
        raster.close()
        raise DataError(
            f"{str(path)!r} keeps its overviews in a file of another name, which is not opened; "
            "remove OVERVIEW_FILE from its .aux.xml, or trust it with --allow-remote"
        )
    return raster


def reason_of(error: Exception) -> str:
    """Return in a few words why a raster cannot be read; GDAL's own are about its functions.

    Args:
        error: Raised by rasterio, or by any other library.
    """
    reason = " ".join(str(error.__cause__ or error).split()).removesuffix(".")
    if isinstance(error, RasterioError) and any(word in reason for word in _DAMAGED):
        return "the file is damaged or cut short"
    return reason


@contextmanager
def quietly(kind: type[Warning]) -> Iterator[None]:
    """Suppress warnings of a kind while opening a file."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", kind)
        yield


def _check_sidecars(path: Path) -> None:
    """Reject masks and overviews next to the file that are not TIFF: they could be a VRT."""
    for suffix in _SIDECARS:
        beside = path.with_name(path.name + suffix)
        if beside.is_file():
            try:
                _open(beside, ("GTiff",)).close()
            except RasterioIOError as error:
                raise DataError(
                    f"{str(beside)!r} next to the image is not a TIFF, so it is not read; remove it"
                ) from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


@lru_cache(maxsize=1024)
def _check_vrt(path: Path, root: Path, _changed: int, _size: int, depth: int = 0) -> None:
    """Raise unless a VRT only names rasters below a folder, and computes nothing."""
    if depth > _DEEPEST:
        raise DataError(f"{str(path)!r} nests VRTs more than {_DEEPEST} levels deep; flatten it")
    for element in _elements(path):
        name = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        kind = attributes.get("subclass", "").casefold()
        if name not in _ELEMENTS or kind not in _KINDS:
            shown = element.tag if name not in _ELEMENTS else attributes["subclass"]
            raise DataError(
                f"{str(path)!r} is a VRT with {shown!r}, which is not supported: a VRT may only "
                "mosaic and warp rasters; convert it to GeoTIFF, or trust it with --allow-remote"
            )
        if name in _SOURCES:
            relative = attributes.get("relativetovrt", "0")
            _check_source(path, root, (element.text or "", relative), depth)


def _elements(path: Path) -> list[ElementTree.Element]:
    if path.stat().st_size > _MOST_XML:
        raise DataError(f"{str(path)!r} is a VRT of over {_MOST_XML // 2**20} MB; split it")
    text = path.read_bytes()
    try:
        if b"<!" in text.replace(b"<!--", b"") or b"\0" in text:
            raise DataError(
                f"{str(path)!r} is a VRT with a document type or null bytes; save it again"
            )
        return list(ElementTree.fromstring(text.decode("utf-8")).iter())
    except (ElementTree.ParseError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r} is not a VRT: {error}") from error


def _local(name: str) -> str:
    """Return a name as GDAL compares it, without namespace and case."""
    return name.rpartition("}")[2].casefold()


def _check_source(vrt: Path, root: Path, source: tuple[str, str], depth: int) -> None:
    text, relative = source
    named = f"VRT {str(vrt)!r} names {text!r}"
    said = "its rasters must be below its own folder; move them there, or use --allow-remote"
    if relative not in ("0", "1") or text.startswith("/vsi") or ":" in text or "<" in text:
        raise DataError(f"{named}, which is not a plain path; {said}")
    found = (vrt.parent / text if relative == "1" else Path(text)).resolve()
    if not found.is_relative_to(root):
        raise DataError(f"{named}; {said}")
    if not found.is_file():
        raise DataError(f"{named}, which does not exist; {said}")
    if found.suffix.lower() == ".vrt":
        status = found.stat()
        return _check_vrt(found, root, status.st_mtime_ns, status.st_size, depth + 1)
    if b"\0" not in _head(found):  # GDAL opens it as any format it supports, XML by its text
        raise DataError(f"{named}, whose content may be text; convert it to GeoTIFF")
    _open(found, _PLAIN).close()
    return None
