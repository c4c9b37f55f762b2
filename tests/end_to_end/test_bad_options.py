"""Options that cannot work: one line, code 2, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tailora as package
from tests.end_to_end.chips import DEBLORA, refused, tailora, write_chips

OPTIONS = {
    "an image size that the patch does not divide": (["--image-size", 20], ["20 px", "14 or 21"]),
    "an image size of nothing": (["--image-size", 0], ["0 px"]),
    "more clusters than samples": (
        [*DEBLORA, "--clusters", 500], ["500", "training samples", "--clusters"],
    ),
    "rho below one": (["--set", "deblora.balance=0.5"], ["rho", "at least 1", "0.5"]),
    "a rank below one": (["--rank", 0], ["rank must be at least 1", "0"]),
    "a rank where there is none": (["--tuner", "ia3"], ["'ia3' has no rank"]),
    "no epochs": (["--epochs", 0], ["epochs must be at least 1"]),
    "an unknown encoder": (["--backbone", "dinov2-smal"], ["did you mean 'dinov2-small'"]),
    "an encoder folder that is not there": (["--backbone", "./enc"], ["./enc", "save_pretrained"]),
    "an unknown tuner": (["--tuner", "lra"], ["did you mean 'lora'"]),
    "an unknown method": (["--method", "deblor"], ["did you mean 'deblora'"]),
    "an unknown preset": (["--preset", "papr"], ["did you mean 'paper'"]),
    "an unknown recipe key": (
        ["--set", "deblora.balence=2"],
        ["'deblora.balence'", "did you mean 'deblora.balance'", "`tailora methods recipe` lists"],
    ),
    "a recipe key like no other": (
        ["--set", "foo.bar=1"], ["'foo.bar'; did you mean", "(`tailora methods recipe` lists all)"],
    ),
    "a recipe key of other libraries": (
        ["--set", "train.learning_rate=1"], ["'train.learning_rate'; did you mean 'train.lr'?"],
    ),
    "an unknown loss": (["--set", "train.loss=focl"], ["did you mean 'focal'"]),
    "an unknown loss option": (["--set", "train.loss_options={tao=1}"], ["no option 'tao'"]),
    "an unknown probe": (["--probe", "ctr"], ["did you mean 'crt'"]),
    "an unknown probe in the recipe": (["--set", "probe.loss=ncm"], ["probe 'ncm'"]),
    "an option of a probe without any": (["--probe", "crt:tau=1"], ["'crt' has no options"]),
    "an unknown option of a probe": (["--probe", "focal:gama=1"], ["no option 'gama'"]),
    "a probe option without a value": (["--probe", "focal:gamma"], ["name:option=value"]),
    "a probe of the images to predict": (
        ["--probe", "sade-test-time"],
        ["'sade-test-time'", "a run cannot save it", "`tailora compare --probes`"],
    ),
    "class names without a text encoder": (["--probe", "clip-zero-shot"], ["CLIP"]),
    "an unknown adapter option": (["--set", "adapter.options={lora_droput=1}"], ["lora_dropout"]),
    "an unknown target": (["--set", 'adapter.targets=["q_prj"]'], ["'q_prj'", "'q_proj'"]),
    "an unknown pooling": (["--set", "backbone.pooling=max"], ["pooling 'max'", "mean"]),
    "an unknown resize": (["--set", "data.resize=pad"], ["'pad'", "crop"]),
    "an unknown augmentation": (["--set", "train.augment=flip"], ["'flip'", "dihedral"]),
    "an unknown imbalance": (["--imbalance", "stp:ratio=9"], ["did you mean 'step'"]),
    "an imbalance that empties a class": (["--imbalance", "step:ratio=999"], ["lower the ratio"]),
    "an unknown group scheme": (["--set", "evaluate.groups=thirds"], ["'class-thirds'"]),
    "an unknown class to calibrate": ([*DEBLORA, "--set", 'deblora.calibrate=["008"]'], ["'007'"]),
    "a band that is not there": (["--set", "data.bands=[1,2,4]"], ["1..3"]),
    "too few bands": (["--set", "data.bands=[1,2]"], ["takes 3 bands", "have 2"]),
    "a band that is no number": (["--set", 'data.bands=["red"]'], ["data.bands", "'red'"]),
    "a penalty of zero": (["--set", "probe.l2=[0.0]"], ["probe.l2", "positive"]),
    "a penalty that is no number": (["--set", 'probe.l2=["a"]'], ["probe.l2", "float", "'a'"]),
    "too many components": ([*DEBLORA, "--set", "deblora.pca=1000"], ["deblora.pca", "1000"]),
    "a negative decay": (["--set", "train.weight_decay=-1"], ["weight_decay", "-1"]),
    "a learning rate that is not finite": (["--set", "train.lr=nan"], ["lr", "nan"]),
    "a trust level out of range": (["--set", "evaluate.trust_f1=50"], ["trust_f1", "[0, 1]"]),
    "a value of another type": (["--set", "train.epochs=2.5"], ["train.epochs must be int"]),
    "an assignment without a value": (["--set", "train.epochs"], ["key=value"]),
    "a seed too large": (["--set", "seed=5000000000"], ["seed", "5000000000"]),
    "a rank in words": (["--rank", "two"], ["--rank takes a whole number, got 'two'"]),
    "a fraction of a rank": (["--rank", 2.5], ["--rank takes a whole number, got '2.5'"]),
    "a negative seed": (
        ["--seed", -1], ["--seed takes a number of at least 0, got '-1'", "tailora fit --help"],
    ),
    "an unknown option": (["--epoch", 3], ["--epoch", "--epochs"]),
    "a recipe that is not there": (["--recipe", "mine.toml"], ["no recipe", "mine.toml"]),
    "a recipe that is a folder": (["--recipe", "."], ["cannot read recipe"]),
    "resume and force together": (["--resume", "--force"], ["--resume", "--force", "choose"]),
}  # fmt: skip


@pytest.mark.parametrize("row", OPTIONS)
def test_options_that_cannot_work_are_refused(row, refuse, data, quick):
    words, says = OPTIONS[row]
    refuse("fit", data, "--out", "new/run", *quick, *words, says=says)


RECIPE_ALONE = {
    "fit": [
        (["--set", "train.lr=-1"], ["lr must be positive", "-1"]),
        (["--set", "train.loss=focl"], ["did you mean 'focal'"]),
        (["--set", "train.loss_options={tao=1}"], ["no option 'tao'"]),
        (["--probe", "ctr"], ["did you mean 'crt'"]),
        (["--probe", "focal:gama=1"], ["no option 'gama'"]),
        (["--probe", "sade-test-time"], ["a run cannot save it"]),
        (["--set", "train.sampler=clas-balanced"], ["did you mean 'class-balanced'"]),
        (["--set", "train.mix=cutmx"], ["did you mean 'cutmix'"]),
        (["--set", "train.optimizer=moun"], ["did you mean 'muon'"]),
        (["--set", "train.objective=supcn"], ["did you mean 'supcon'"]),
        (["--set", "train.augment=flip"], ["'flip'"]),
        (["--set", "probe.l2=[0.0]"], ["probe.l2"]),
        (["--set", "evaluate.trust_f1=50"], ["trust_f1"]),
        (["--set", "compute.precision=bf8"], ["did you mean 'bf16'"]),
        (["--set", "deblora.balance=0.5"], ["rho"]),
        (["--tuner", "lra"], ["did you mean 'lora'"]),
        (["--backbone", "dinov2-smal"], ["did you mean 'dinov2-small'"]),
        (["--backbone", "./enc"], ["no folder './enc'"]),
        (["--backbone", "satmae.pth"], ["no checkpoint 'satmae.pth'"]),
        (["--set", "adapter.options={lora_droput=1}"], ["did you mean 'lora_dropout'"]),
        (["--set", "backbone.pooling=max"], ["pooling 'max'"]),
        (["--set", "data.resize=crp"], ["did you mean 'crop'"]),
        (["--set", "data.sensor=sentinel2"], ["did you mean 'sentinel-2'"]),
        (["--set", "evaluate.groups=thirds"], ["did you mean 'class-thirds'"]),
        (["--epochs", "0"], ["epochs must be at least 1"]),
        (["--out", "mine"], ["not a tailora run"]),
    ],
    "compare": [
        (["--set", "train.lr=-1"], ["lr must be positive", "-1"]),
        (["--vary", "train.lr=0.1,-1"], ["lr must be positive", "-1"]),
        (["--probes", "ctr"], ["did you mean 'crt'"]),
        (["--backbone", "dinov2-smal"], ["did you mean 'dinov2-small'"]),
        (["--seeds", "x"], ["--seeds takes a whole number, got 'x'"]),
        (["--probes", "focal:gama=1"], ["no option 'gama'"]),
        (["--methods", "deblor"], ["did you mean 'deblora'"]),
        (["--methods", "clora", "--set", "train.loss=focal"], ["clora"]),
    ],
}


@pytest.mark.parametrize(
    ("verb", "words", "says"),
    [(verb, *row) for verb, rows in RECIPE_ALONE.items() for row in rows],
)
def test_what_the_command_alone_shows_is_refused_before_data_are_opened(
    verb, words, says, monkeypatch, tmp_path
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    monkeypatch.setattr(f"tailora.cli.{verb}.opened", lambda *_, **__: pytest.fail("opened"))
    refused(tailora(verb, "bluemarble", "--out", "out", *words), *says)


def test_one_line_is_all_there_is_without_quiet_too(refuse, data, quick):
    loud = [word for word in quick if word != "--quiet"]
    refuse("fit", data, "--out", "run", *loud, *DEBLORA, "--clusters", 500, says=["500"])


def test_no_output_folder_is_made_where_none_was_named(refuse, data, quick):
    refuse("fit", data, *quick, "--tuner", "lra")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method = ", ["not TOML"]),
        ("[deblora]\nbalence = 2\n", ["deblora.balence", "did you mean 'deblora.balance'"]),
        ("[debloras]\nbalance = 2\n", ["debloras.balance", "did you mean 'deblora.balance'"]),
        ("epochs = 2\n", ["'epochs'", "'train.epochs'"]),
    ],
)
def test_a_recipe_file_that_cannot_be_used_is_refused(text, says, refuse, data, quick, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    refuse("fit", data, "--out", "run", *quick, "--recipe", "mine.toml", says=says)


def test_classes_of_two_samples_leave_nothing_to_choose_the_penalty_by(refuse, tmp_path, quick):
    pairs = write_chips(tmp_path / "d", {"forest": 2, "water": 2})
    words = ["fit", pairs, "--out", tmp_path / "run", *quick, "--clusters", 2]
    refuse(*words, says=["probe.l2", "--set probe.l2=[0.01]"])
    answer = tailora(*words, "--set", "probe.l2=[0.01]", "--method", "zero-shot")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fti"], ["'fti'", "'fit'", "tailora --help"]),
        (["fit"], ["DATA", "tailora fit --help"]),
        (["predict", "run"], ["IMAGES", "tailora predict --help"]),
        (["map", "run", "scene.tif"], ["--out", "tailora map --help"]),
        (["methods", "focl"], ["'focl'", "did you mean 'focal'"]),
        (["methods", "recpie"], ["'recpie'", "did you mean 'recipe'"]),
        (["methods", "xyzzy"], ["nothing is called 'xyzzy' (`tailora methods` lists all)"]),
        (["fit", "chips", "--set"], ["--set"]),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line_too(words, says, refuse):
    refuse(*words, says=says)


@pytest.mark.slow
def test_a_separate_process_says_one_line_without_a_traceback_and_debug_shows_it(tmp_path):
    root = str(Path(package.__file__).parents[1])
    words = [sys.executable, "-m", "tailora", "inspect", "nowhere"]
    env = {**os.environ, "PYTHONPATH": root}
    result = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: no file or folder 'nowhere'")
    assert len(result.stderr.splitlines()) == 1
    debug = tailora(*words[3:], "--debug")
    assert debug.code == 2
    assert "Traceback" in debug.err
    assert debug.err.splitlines()[-1].startswith("error: no file or folder")


@pytest.mark.parametrize(
    ("words", "endings"),
    [
        (("predict", "run", "chips", "--out", "p.gpkg"), (".csv", "tailora map", "'p.gpkg'")),
        (("map", "run", "scene", "--out", "map.gpkg"), (".tif or .tiff", "'map.gpkg'")),
        (("map", "run", "scene", "--out", "map.JP2"), (".tif or .tiff", "'map.JP2'")),
        (("map", "run", "scene", "--out", "maps.v2"), (".tif or .tiff", "'maps.v2'")),
        (("report", "run", "--out", "r.pdf"), (".html or .htm", "'r.pdf'")),
        (("inspect", "chips", "--out", "r.csv"), (".html or .htm", "'r.csv'")),
        (("evaluate", "run", "chips", "--out", "m.csv"), ("JSON", ".json", "'m.csv'")),
    ],
)
def test_a_name_that_says_another_format_is_refused_before_anything_is_read(words, endings, refuse):
    refuse(*words, says=("--out", *endings))


def test_a_fault_of_tailora_is_told_from_a_mistake_of_the_user(monkeypatch):
    def fail(*_arguments, **_options):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("tailora.data.open_dataset", fail)
    answer = tailora("inspect", "chips")
    assert answer.code == 70
    assert answer.err.startswith("error: ZeroDivisionError: by zero (internal error")
    assert len(answer.err.splitlines()) == 1
    with pytest.raises(ZeroDivisionError):
        tailora("inspect", "chips", "--debug")
