"""Damaged images, scenes, labels and tables: code 0 or 2, one line, no hang, nothing half-written.

Each file is damaged by a seeded generator, so what fails once fails again. Faults that were found
this way stand as rows of their own in `test_bad_data.py`, where they run by default.
"""

import io
import json
import signal
import string
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.scenes import fields_of, traced, write_labels, write_scene
from tests.end_to_end.chips import snapshot, tailora, write_chips, write_raster, write_table

pytestmark = pytest.mark.slow

MUTATIONS = 120
SECONDS = 60  # of one command; a hundredth of it is usual
ODD_TEXTS = ("", " ", "\0", "NaN", "-1", "1e400", "9" * 400, "null", "{}", "[]", "'", '"', "\u202e",
             "<a/>", "=1+1", "../..", "/vsicurl/http://127.0.0.1:9/x")  # fmt: skip


@pytest.fixture(autouse=True)
def _in_time():
    def late(*_):
        raise AssertionError(f"a command took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """One to three of: a bit flipped, a byte of the head set, a piece gone, doubled or noise."""
    content = bytearray(raw)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(content) + 1))
        piece = slice(at, at + int(rng.integers(1, 64)))
        kind = rng.choice(["bit", "head", "gone", "twice", "cut", "noise"])
        if kind == "bit" and at < len(content):
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == "head":  # most of a format stands there
            head = int(rng.integers(256))
            content[head : head + 1] = bytes([rng.choice([0, 1, 127, 128, 255])])
        else:
            content[piece] = {
                "gone": b"", "twice": content[piece] * 2, "noise": rng.bytes(piece.stop - at)
            }.get(kind, b"")  # fmt: skip
            content = content[:at] if kind == "cut" else content
    return bytes(content)


def damaged_text(text: str, rng: np.random.Generator) -> bytes:
    """Half of the times bytes as above, else a word, a number or a line made another."""
    if rng.integers(2):
        return damaged(text.encode(), rng)
    lines = text.split("\n")
    row = int(rng.integers(len(lines)))
    match rng.integers(4):
        case 0:
            lines.insert(row, lines[int(rng.integers(len(lines)))])
        case 1:
            del lines[row]
        case 2:
            lines[row] = str(rng.choice(ODD_TEXTS))
        case 3:
            at = int(rng.integers(len(lines[row]) + 1))
            stop = at + int(rng.integers(1, 12))
            lines[row] = lines[row][:at] + str(rng.choice(ODD_TEXTS)) + lines[row][stop:]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damaged_json(value: object, rng: np.random.Generator) -> object:
    """Put something of another shape at a random place of a JSON value."""
    odd = [None, True, -1, 10**400, 1e308, "", "x" * 1000, [], {}, [[]], {"type": []}]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[int(rng.integers(len(value)))]
        return value | {key: damaged_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = int(rng.integers(len(value)))
        return [*value[:at], damaged_json(value[at], rng), *value[at + 1 :]]
    return odd[int(rng.integers(len(odd)))]


def check(seed: int, *words: object, root: Path) -> None:
    """Run a command that may succeed or refuse, and must do either in one of the two clean ways."""
    before = snapshot(root)
    signal.alarm(SECONDS)
    answer = tailora(*words)
    signal.alarm(0)
    said = f"mutation {seed}: code {answer.code}\n{answer.err}"
    assert answer.code in (0, 2), said
    if answer.code == 2:
        assert len(answer.err.splitlines()) == 1, said
        assert answer.err.startswith("error: "), said
        assert snapshot(root) == before, f"{said}\nsomething was written"
    else:
        assert "Traceback" not in answer.err, said
        json.loads(answer.out)


def picture(kind: str) -> bytes:
    """Bytes of a 20 x 24 image with noise, so that a damage changes what is decoded."""
    pixels = np.random.default_rng(3).integers(0, 255, (20, 24, 3)).astype(np.uint8)
    if kind in ("jpg", "png", "gif-as-png"):
        file = io.BytesIO()
        form = {"jpg": "JPEG", "png": "PNG", "gif-as-png": "GIF"}[kind]
        Image.fromarray(pixels).save(file, form)
        return file.getvalue()
    if kind == "png-16":
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(file, "PNG")
        return file.getvalue()
    path = Path(f"{kind}.tif")
    write_raster(path, np.moveaxis(pixels, -1, 0).astype("float32" if kind == "float" else "uint8"))
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize("kind", ["jpg", "png", "png-16", "gif-as-png", "tif", "float"])
def test_damaged_images(kind, tmp_path):
    write_chips(tmp_path / "d", {"forest": 3, "water": 3})
    raw = picture(kind)
    suffix = {"jpg": "jpg", "tif": "tif", "float": "tif"}.get(kind, "png")
    target = tmp_path / "d" / "forest" / f"0.{suffix}"  # the first that is looked at
    for seed in range(MUTATIONS):
        target.write_bytes(damaged(raw, np.random.default_rng(seed)))
        check(seed, "inspect", "d", "--json", root=tmp_path)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_predicting_damaged_images(kind, finished, tmp_path):
    raw = picture(kind)
    for seed in range(MUTATIONS // 4):
        path = tmp_path / f"one.{kind}"
        path.write_bytes(damaged(raw, np.random.default_rng(seed)))
        check(seed, "predict", finished, path, "--json", "--quiet", root=tmp_path)


@pytest.fixture
def ground(tmp_path):
    """A little scene with fields of three classes."""
    scene = write_scene(tmp_path / "scene.tif", traced(3, 120), names=("red", "green", "blue"))
    shapes, names = fields_of(120)
    return scene, shapes, names


def looked_at(seed, scene, labels, root):
    words = ("--labels", labels, "--class-field", "landuse", "--chip", 16, "--json")
    check(seed, "inspect", scene, *words, root=root)


def test_damaged_scenes(ground, tmp_path):
    scene, shapes, names = ground
    labels = write_labels(tmp_path / "l.gpkg", shapes, names)
    raw = scene.read_bytes()
    for seed in range(MUTATIONS):
        rng = np.random.default_rng(seed)
        # the pixels outweigh the head by far, so half of the damages are kept to what frames them
        content = damaged(raw[:600], rng) + raw[600:] if rng.integers(2) else damaged(raw, rng)
        scene.write_bytes(content)
        looked_at(seed, scene, labels, tmp_path)


@pytest.mark.parametrize("sidecar", ["scene.tfw", "scene.tif.aux.xml", "scene.tif.msk"])
def test_damaged_files_beside_a_scene(sidecar, ground, tmp_path):
    scene, shapes, names = ground
    labels = write_labels(tmp_path / "l.gpkg", shapes, names)
    texts = {
        "scene.tfw": "10\n0\n0\n-10\n330000\n5822000\n",
        "scene.tif.aux.xml": "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>330000, 10, 0, "
        '5822000, 0, -10</GeoTransform><PAMRasterBand band="1"><NoDataValue>0</NoDataValue>'
        "<Scale>0.1</Scale></PAMRasterBand></PAMDataset>\n",
        "scene.tif.msk": "II*\0" + string.ascii_letters * 3,
    }
    for seed in range(MUTATIONS // 2):
        damage = damaged_text(texts[sidecar], np.random.default_rng(seed))
        (tmp_path / sidecar).write_bytes(damage)
        looked_at(seed, scene, labels, tmp_path)
        (tmp_path / sidecar).unlink()


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp", "fgb"])
def test_damaged_labels(suffix, ground, tmp_path):
    scene, shapes, names = ground
    (tmp_path / "labels").mkdir()
    labels = write_labels(tmp_path / "labels" / f"l.{suffix}", shapes, names, kind="Polygon")
    whole = {path: path.read_bytes() for path in (tmp_path / "labels").iterdir()}
    for seed in range(MUTATIONS):
        rng = np.random.default_rng(seed)
        harmed = sorted(whole)[int(rng.integers(len(whole)))]  # of a Shapefile any of its files
        harmed.write_bytes(damaged(whole[harmed], rng))
        looked_at(seed, scene, labels, tmp_path)
        harmed.write_bytes(whole[harmed])


def test_geojson_of_any_shape(ground, tmp_path):
    scene, shapes, names = ground
    labels = write_labels(tmp_path / "l.geojson", shapes[:4], names[:4], crs="EPSG:32633")
    value = json.loads(labels.read_text("utf-8"))
    for seed in range(MUTATIONS):
        labels.write_text(json.dumps(damaged_json(value, np.random.default_rng(seed))))
        looked_at(seed, scene, labels, tmp_path)


def test_damaged_tables(tmp_path):
    write_chips(tmp_path, {"forest": 5, "water": 4})
    rows = [
        (f"{name}/{i:03d}.png", name, ("train", "val", "test")[i % 3], f"g{i}")
        for name, count in (("forest", 5), ("water", 4))
        for i in range(count)
    ]
    table = write_table(tmp_path / "list.csv", ("path", "label", "split", "group"), rows)
    text = table.read_text("utf-8")
    for seed in range(3 * MUTATIONS):
        table.write_bytes(damaged_text(text, np.random.default_rng(seed)))
        check(seed, "inspect", table, "--json", root=tmp_path)
