"""Change through the command line: pairs to metrics, masks and maps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

import tailora as package
from tailora.metrics.change import change_scores
from tailora.storage import read_json
from tests.data.scenes import WEST, write_scene
from tests.end_to_end.chips import read_rows, succeed, tailora
from tests.end_to_end.test_resume import Watch

COVERS = ("field", "mine", "water")
COLOURS = np.array([[70, 130, 50], [180, 150, 120], [40, 70, 160]])
SIDE = 24
OPTIONS = ("--quiet", "--rank", "2", "--epochs", "1", "--image-size", "28", "--task", "change",
           "--set", "evaluate.replicates=40", "--set", "train.batch_size=8",
           "--set", "probe.l2=[0.01]")  # fmt: skip

FROZEN = ("--quiet", "--method", "zero-shot", "--image-size", "28", "--task", "change",
          "--set", "evaluate.replicates=40", "--set", "probe.l2=[0.01]")  # fmt: skip


def draw_image(cover, rng):
    noisy = COLOURS[cover] + rng.integers(-25, 25, (*cover.shape, 3))
    return noisy.clip(1).astype(np.uint8)


def draw_pair(rng, i):
    """Half field, half water; a mine in the field, or none, and seldom water over the field."""
    before = np.zeros((SIDE, SIDE), np.uint8)
    before[:, 14:] = 2
    after = before.copy()
    if i % 2:
        row = rng.integers(1, 9)
        after[row : row + 14, 1:13] = 1
    if i % 5 == 0:
        after[16:, :14] = 2
    return before, after


def write_pairs(root, *, pairs=30, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(pairs):
        covers = draw_pair(rng, i)
        for name, cover in zip(("before", "after"), covers, strict=True):
            for folder, pixels in ((name, draw_image(cover, rng)), (f"masks_{name}", cover + 1)):
                path = root / folder / f"{i:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    lines = [f"{value},{name}" for value, name in enumerate(COVERS, 1)]
    (root / "classes.csv").write_text("\n".join(lines), "utf-8")
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "land")


@pytest.fixture(scope="module")
def run(tmp_path_factory, pairs, encoder):
    folder = tmp_path_factory.mktemp("runs") / "change"
    succeed("fit", pairs, "--out", folder, "--backbone", encoder, *OPTIONS)
    return folder


def test_metrics_are_those_of_the_masks_it_predicts(run, pairs, tmp_path):
    """Predicted masks are read again as pairs and scored by hand."""
    found = read_json(run / "metrics.json")["task"]
    rows = [(row["method"], row["head"]) for row in found["rows"]]
    assert rows == [("lora", "post-classification"), ("lora", "own"), ("lora", "factored")]
    out = tmp_path / "said"
    told = json.loads(succeed("predict", run, pairs, "--out", out, "--json", "--quiet").out)
    assert (told["pairs"], sum(told["pixels"].values())) == (30, 30 * SIDE**2)
    data = package.data.open_changes(pairs)
    table = np.zeros((4, 4))
    for i in data.indices("test"):
        true = data.targets.covers(int(i))
        true = true * (true[0] != true[1])
        said = [np.asarray(Image.open(out / f"masks_{d}" / f"{data.ids()[i]}.png"))
                for d in ("before", "after")]  # fmt: skip
        said = np.stack(said)
        np.add.at(table, (said * (said[0] != said[1]), true), 1)
    own = found["rows"][-1]
    np.testing.assert_allclose(own["confusion"], table, atol=3)  # features were kept in 16 bits
    scores = change_scores(np.array(own["confusion"]))
    assert own["sek"] == pytest.approx(float(scores["sek"]))
    assert own["f_scd"] > 0.5  # colours tell land cover apart
    assert found["rows"][0]["f_scd"] > 0.3
    names = [row["name"] for row in own["per_transition"]]
    assert "field → mine" in names
    assert "mine → field" in names
    assert found["covers"] == list(COVERS)
    for folder in ("before", "after"):
        (out / folder).symlink_to(pairs / folder)
    again = package.data.open_changes(out, to_learn=False)
    assert set(again.classes) <= set(data.classes)


def test_inspect_counts_the_bands_of_a_date(pairs):
    said = succeed("inspect", pairs, "--task", "change").out
    assert f"first pair 3 bands at 2 dates, {SIDE} x {SIDE}, uint8" in said
    assert "bands: band 1, band 2, band 3\n" in said


def test_the_report_shows_transitions(run, tmp_path):
    succeed("report", run, "--out", tmp_path / "again.html", "--quiet")
    shown = (tmp_path / "again.html").read_text("utf-8")
    assert "Recall of each transition" in shown
    assert "SeK of LoRA is" in shown
    assert "first date, second date, truth, prediction and errors of" in shown
    assert re.search("(field|mine|water) → (field|mine|water): IoU [0-9.]+ % here", shown)
    assert "field → mine" in shown


def test_evaluate_measures_other_pairs(run, tmp_path):
    other = write_pairs(tmp_path / "other", pairs=10, seed=5)
    found = json.loads(succeed("evaluate", run, other, "--json", "--quiet").out)
    rows = found["task"]["rows"]
    assert [row["head"] for row in rows] == ["post-classification", "factored"]
    assert min(row["f_scd"] for row in rows) > 0.5
    assert found["task"]["differences"][0]["against_head"] == "post-classification"
    alarms = found["task"]["false_alarms"]
    assert 0 <= alarms["identical"] <= alarms["shifted"] < 0.2
    few = write_pairs(tmp_path / "few", pairs=4, seed=5)
    assert "pixels of identical images are called changed" in succeed("evaluate", run, few).out


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two scenes of 2 x 2 pairs, a corner of the second without data."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(9)
    grid = [[draw_pair(rng, i) for i in row] for row in ((1, 5), (2, 3))]
    found = []
    for date, name in enumerate(("before.tif", "after.tif")):
        cover = np.block([[pair[date] for pair in row] for row in grid])
        pixels = np.moveaxis(draw_image(cover, rng), -1, 0)
        if date:
            pixels[:, 40:, 40:] = 0
        found.append(write_scene(folder / name, pixels, nodata=0))
    return found, [np.block([[pair[d] for pair in row] for row in grid]) for d in (0, 1)]


def compared(run, before, after, out, *words):
    succeed("change", run, before, after, "--out", out, "--quiet", *words)
    with rasterio.open(out) as file:
        return file.read(), json.loads(file.tags()["TAILORA_CHANGE"])


def test_a_map_of_two_scenes_swaps_with_their_dates(run, scenes, tmp_path):
    (before, after), covers = scenes
    bands, tags = compared(
        run, before, after, tmp_path / "a.tif", "--polygons", tmp_path / "a.gpkg"
    )
    assert tags == {"classes": list(COVERS), "method": "direct"}
    none = np.zeros((2 * SIDE, 2 * SIDE), bool)
    none[40:, 40:] = True
    np.testing.assert_array_equal(bands[0] == 255, none)
    changed = covers[0] != covers[1]
    assert ((bands[0] == 1) == changed)[~none].mean() > 0.8
    assert ((bands[1] != bands[2]) == (bands[0] == 1))[~none].all()
    assert (bands[1] == covers[0] + 1)[~none].mean() > 0.8
    back, _ = compared(run, after, before, tmp_path / "b.tif")
    np.testing.assert_array_equal(bands[[0, 2, 1, 3]], back)
    same, _ = compared(run, before, before, tmp_path / "c.tif")
    assert (same[0] == 1).mean() < 0.02


def test_rules_name_kinds_of_change_and_drop_what_is_none(run, scenes, tmp_path):
    (before, after), _ = scenes
    plain, _ = compared(run, before, after, tmp_path / "a.tif")
    mine = (plain[0] == 1) & (plain[1] == 1) & (plain[2] == 2)
    assert 0 < mine.sum() < (plain[0] == 1).sum()
    (tmp_path / "rules.csv").write_text(f"from,to,kind\n*,*,\n{COVERS[0]},{COVERS[1]},digging\n")
    words = ("--rules", tmp_path / "rules.csv", "--table", tmp_path / "t.csv")
    bands, _ = compared(run, before, after, tmp_path / "b.tif", *words)
    np.testing.assert_array_equal(bands[0] == 1, mine)
    dropped = (plain[0] == 1) & ~mine
    np.testing.assert_array_equal(bands[2][dropped], plain[1][dropped])
    np.testing.assert_allclose(bands[3][dropped], 100.0 - plain[3][dropped], atol=1)
    np.testing.assert_array_equal(bands[:, ~dropped], plain[:, ~dropped])
    (row,) = read_rows((tmp_path / "t.csv").read_text("utf-8"))
    assert (row["from"], row["to"], row["kind"]) == (*COVERS[:2], "digging")
    (tmp_path / "rules.csv").write_text(f"{COVERS[0]},*,loss\n")
    answer = succeed("change", run, before, after, "--out", tmp_path / "c.tif", "--json", *words)
    found = json.loads(answer.out)
    kinds = {one["before"]: one["kind"] for one in found["transitions"]}
    assert kinds[COVERS[0]] == "loss"
    assert set(kinds.values()) <= {"loss", "other"}
    assert found["kinds"]["loss"] == pytest.approx(
        sum(one["share"] for one in found["transitions"] if one["kind"] == "loss")
    )


def write_dates(root, *, shift=0, pixel=10.0, columns=None):
    """A pair of GeoTIFFs; the second of finer pixels, cut, or elsewhere."""
    rng = np.random.default_rng(3)
    first, second = (np.moveaxis(draw_image(one, rng), -1, 0) for one in draw_pair(rng, 1))
    times = round(10 / pixel)
    finer = second.repeat(times, axis=1).repeat(times, axis=2)[:, :, :columns]
    write_scene(root / "before" / "a.tif", first)
    write_scene(root / "after" / "a.tif", finer, pixel=pixel, west=WEST + shift)
    return root


def said_of(out):
    folders = [out / f"masks_{date}" / "a.png" for date in ("before", "after")]
    return np.stack([np.asarray(Image.open(path)) for path in folders])


def test_second_dates_on_another_grid_are_warped_before_they_are_predicted(run, refuse, tmp_path):
    told = {}
    for name, made in (("same", {}), ("finer", {"pixel": 5.0}), ("cut", {"columns": 18})):
        root = write_dates(tmp_path / name, **made)
        words = ("predict", run, root, "--out", tmp_path / "said" / name, "--json", "--quiet")
        told[name] = json.loads(succeed(*words).out)
    masks = {name: said_of(tmp_path / "said" / name) for name in told}
    np.testing.assert_array_equal(masks["finer"], masks["same"])
    uncovered = np.broadcast_to(np.arange(SIDE) >= 18, masks["cut"].shape)
    np.testing.assert_array_equal(masks["cut"] == 255, uncovered)
    assert (masks["cut"][..., :12] == masks["same"][..., :12]).mean() > 0.8
    assert [one["warped"] for one in told.values()] == [0, 1, 1]
    assert told["cut"]["uncovered"] == SIDE * 6
    assert sum(told["cut"]["pixels"].values()) == SIDE * 18
    table = (tmp_path / "said" / "cut" / "classes.csv").read_text("utf-8")
    assert table.splitlines()[-1] == "255,ignore"
    assert "ignore" not in (tmp_path / "said" / "same" / "classes.csv").read_text("utf-8")
    answer = succeed("predict", run, tmp_path / "cut", "--out", tmp_path / "again")
    assert f"1 pair; not covered, so without a class: {SIDE * 6} pixels" in " ".join(
        answer.err.split()
    )
    far = write_dates(tmp_path / "far", shift=5000)
    refuse("predict", run, far, "--out", "new", says=["covers 0.0 % of", "at least 1% is needed"])
    small = write_pairs(tmp_path / "small", pairs=1)
    Image.new("RGB", (9, 9)).save(small / "after" / "00.png")
    refuse("predict", run, small, "--out", "new", says=["must lie pixel on pixel, or both dates"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n", "line 1 of 'rules.csv' is not FROM,TO,KIND"),
        (f"{COVERS[0]},mien,x\n", "unknown class 'mien'; did you mean 'mine'?"),
        ("from,to,kind\n", "'rules.csv' has no rule"),
        (None, "cannot read rules 'rules.csv': No such file"),
    ],
)
def test_rules_that_cannot_be_used_are_refused(text, says, run, scenes, refuse):
    if text is not None:
        Path("rules.csv").write_text(text)
    refuse("change", run, *scenes[0], "--out", "new.tif", "--rules", "rules.csv", says=[says])


def test_a_decoder_of_both_dates_is_resumed_kept_and_maps(
    pairs, scenes, encoder, monkeypatch, tmp_path
):
    """The same head by --probe, fitted after an interruption, and by recipe at once."""
    fit = ("fit", pairs, "--backbone", encoder, *FROZEN)
    stopped = (*fit, "--probe", "mamba-fcs:channels=8:epochs=20:rate=0.02", "--out", tmp_path / "a",
               "--resume")  # fmt: skip
    watch = Watch("zero-shot: test features", 1)
    monkeypatch.setattr("tailora.cli.fit.bars", lambda **_quiet: watch)
    assert tailora(*stopped).code == 130
    monkeypatch.undo()
    succeed(*stopped)
    recipe = ("--set", "probe.loss=mamba-fcs",
              "--set", "probe.loss_options={channels = 8, epochs = 20, rate = 0.02}")  # fmt: skip
    succeed(*fit, *recipe, "--out", tmp_path / "b")
    heads = [tmp_path / run / "stages" / "zero-shot" / "head.safetensors" for run in ("a", "b")]
    assert heads[0].read_bytes() == heads[1].read_bytes()
    (before, after), _ = scenes
    bands, _ = compared(tmp_path / "a", before, after, tmp_path / "a.tif")
    back, _ = compared(tmp_path / "b", after, before, tmp_path / "b.tif")
    assert (bands[0] == 1).any()
    np.testing.assert_array_equal(bands[[0, 2, 1, 3]], back)
    same, _ = compared(tmp_path / "a", before, before, tmp_path / "c.tif")
    assert not (same[0] == 1).any()


def test_a_map_of_two_dates_is_a_map_of_what_changed(run, scenes, tmp_path, refuse):
    (before, after), _ = scenes
    succeed("change", run, before, after, "--out", tmp_path / "a.tif", "--quiet")
    succeed("map", run, before, after, "--out", tmp_path / "b.tif", "--quiet")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    refuse("map", run, before, after, "--out", "new.tif", "--sieve", "3", "--resume",
           says=["maps of changes have no --resume, --sieve; see `tailora change"])  # fmt: skip


def test_what_does_not_fit_a_run_of_change_is_refused(run, pairs, data, scenes, refuse, encoder):
    (before, after), _ = scenes
    out = ("--out", "new.tif")
    refuse("change", run, before, after, *out, "--prior", "0.1", says=["leave out --prior"])
    refuse("map", run, before, *out, says=["compare two scenes with `tailora change RUN"])
    refuse("predict", run, before, "--out", "new", says=["give one folder with before/ and after/"])
    refuse("predict", run, data, "--out", "new", says=["has no folders before/ and after/"])
    refuse("predict", run, pairs, "--out", "new.csv", says=["give a folder with --out DIR"])
    fit = ("fit", "--backbone", encoder, *OPTIONS)
    refuse(*fit, data, says=["has no folders of pairs"])
    refuse(*fit, "nowhere", "--probe", "mamba-fcs:guided=1", says=["must be true or false, got 1"])
    refuse(
        "fit",
        data,
        "--probe",
        "mamba-fcs",
        "--out",
        "new",
        says=["choose another, or --task change"],
    )
    refuse(*fit, "shared-attributes", says=["no pairs of images with masks, which task"])
    refuse(*fit, pairs, "--chip", "64", says=["chip are options of scenes"])
    refuse("evaluate", run, data, says=["has no folders of pairs"])
