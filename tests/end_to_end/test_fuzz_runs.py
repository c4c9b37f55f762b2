"""Damaged run folders, comparisons and recipes: a clean answer, no hang, nothing half-written.

Each file is damaged by a seeded generator, so what fails once fails again. Faults that were found
this way stand as rows of their own in `test_bad_runs.py`, `test_bad_comparisons.py` and
`test_bad_recipes.py`, where they run by default.
"""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tailora.config.recipe import recipe_keys
from tests.end_to_end.chips import copy_run, reseal, snapshot, succeed, tailora
from tests.end_to_end.test_fuzz_inputs import damaged, damaged_text

pytestmark = pytest.mark.slow

MUTATIONS = 150
SECONDS = 60  # of one command; a second is usual
_MARK = "what-stands-here-is-replaced"
_LONG = "9" * 5000
ODD_JSON = (
    "null", "true", "0", "-1", "1.5", "-0.0", "1e308", "1e400", "NaN", "-Infinity",
    "1" + "0" * 400, _LONG, '""', '"x"', '"\\ud800"', '"\\u0000"', '"../.."', "[]", "{}", "[[]]",
    "[null]", '{"type": []}', '{"a": 1, "a": 2}', "[" * 100_000,
)  # fmt: skip
ODD_TOML = (
    '""', '"x"', '"\\u0000"', "true", "0", "-1", "1.5", "nan", "inf", "-inf", "1e308", "1e400",
    str(10**12), str(10**18), str(2**63), "1" + "0" * 400, _LONG, "0x" + "f" * 5000, "[]", "[[]]",
    "[-1]", "[nan]", '[""]', "[" * 100_000, "{}", "{a = {b = []}}", "{a.a.a = 1}", "1979-05-27",
    "07:32:00", str([0.5] * 10_000),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _in_time():
    def late(*_):
        raise AssertionError(f"a command took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fault(code: int, err: str, out: str) -> str:
    """Say what is wrong with the way a command ended; empty where it is one of the clean ones."""
    if code == 0:
        return "a traceback" * ("Traceback" in err)
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    wrong = {
        f"code {code}": code != 2,
        "not one line": [line[:7] for line in lines] != ["error: "],
        "an endless line": len(err) > 2000,
        "something on standard output": bool(out),
    }
    return ", ".join(what for what, holds in wrong.items() if holds)


def answer_to(faults: list[str], said: str, *words: object) -> int:
    """Run a command that may succeed or refuse; what is not clean about it joins the faults."""
    signal.alarm(SECONDS)
    answer = tailora(*words)
    signal.alarm(0)
    if found := fault(*answer[:1], answer.err, answer.out):
        faults.append(f"{said}: {words[0]}: {found}\n    {answer.err.strip()[-400:]}")
    return answer.code


def edited(value: object, rng: np.random.Generator) -> object:
    """Mark a random place of a JSON value, drop it, or let it stand twice."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[int(rng.integers(len(value)))]
        if rng.random() < 0.1:
            return {other: inner for other, inner in value.items() if other != key}
        if rng.random() < 0.05:
            return value | {_MARK: 1}
        return value | {key: edited(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = int(rng.integers(len(value)))
        if rng.random() < 0.15:
            return [*value[:at], *value[at : at + 1] * int(rng.choice([0, 2])), *value[at + 1 :]]
        return [*value[:at], edited(value[at], rng), *value[at + 1 :]]
    return _MARK


def with_odd_json(raw: bytes, rng: np.random.Generator) -> bytes:
    text = json.dumps(edited(json.loads(raw), rng))
    return text.replace(f'"{_MARK}":', '"schema":').replace(
        f'"{_MARK}"', str(rng.choice(ODD_JSON))
    ).encode()  # fmt: skip


def harm(folder: Path, names: list[str], rng: np.random.Generator) -> str:
    """Damage one file of a folder, of those named; half of the times what a JSON file says."""
    name = names[int(rng.integers(len(names)))]
    path = folder / name
    kind = str(rng.choice(["bytes", "empty", "no text", "cut", "swap", "folder", "gone"]))
    if path.suffix == ".json" and rng.random() < 0.8:
        kind = "json"
        path.write_bytes(with_odd_json(path.read_bytes(), rng))
    elif kind == "bytes":
        path.write_bytes(damaged(path.read_bytes(), rng))
    elif kind == "cut":
        content = path.read_bytes()
        path.write_bytes(content[: int(rng.integers(len(content)))])
    elif kind == "swap":
        other = folder / names[int(rng.integers(len(names)))]
        mine, others = path.read_bytes(), other.read_bytes()
        path.write_bytes(others)
        other.write_bytes(mine)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if kind == "empty" else b"\xff\xfe\0{")
    return f"{name} ({kind})"


def no_checksums(run: Path) -> None:
    """Let a run look like one of version 0.1, whose files nothing vouches for."""
    try:
        reseal(run)
        record = json.loads((run / "run.json").read_text("utf-8"))
        kept = {k: v for k, v in record.items() if k not in ("files", "checksum")}
        (run / "run.json").write_text(json.dumps(kept))
    except (ValueError, OSError, TypeError):  # run.json itself is harmed beyond that
        return


def sealed(run: Path) -> None:
    try:
        reseal(run)
    except (ValueError, OSError, TypeError):
        return


def put_back(whole: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    copy_run(whole, folder)


def parts(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in suffixes
    )


READERS = {
    "predict": lambda run, data: ("predict", run, data / "007/000.png", "--json", "--quiet"),
    "evaluate": lambda run, data: ("evaluate", run, data, "--json", "--quiet"),
    "report": lambda run, _: ("report", run, "--out", "r.html", "--json"),
}


@pytest.mark.parametrize("verb", READERS)
def test_damaged_runs(verb, finished, data, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    (run / "stages").rename(tmp_path / "stages")  # nothing below is read
    whole = copy_run(run, tmp_path / "whole")
    names = parts(run, (".json", ".toml", ".npz", ".npy", ".safetensors"))
    names += ["run.json", "metrics.json", "calibration.json", "classes.json"] * 2
    out = tmp_path / "r.html"
    faults: list[str] = []
    for seed in range(MUTATIONS):
        rng = np.random.default_rng(seed)
        said = f"mutation {seed} of {harm(run, names, rng)}"
        (sealed if seed % 2 else no_checksums)(run)
        before = snapshot(tmp_path)
        code = answer_to(faults, said, *READERS[verb](run, data))
        if code and snapshot(tmp_path) != before:
            faults.append(f"{said}: {verb}: something was written")
        out.unlink(missing_ok=True)
        put_back(whole, run)
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def compared(tmp_path_factory, data, quick):
    """A finished comparison with tuned rows that nobody may change."""
    out = tmp_path_factory.mktemp("compared") / "out"
    succeed("compare", data, "--out", out, *compared_words(quick))
    return out


def compared_words(quick):
    return (
        *quick, "--methods", "zero-shot,lora,deblora", "--probes", "logit-adjusted",
        "--seeds", 2, "--jobs", 1, "--tune", "deblora.balance=1,2", "--trials", 2,
    )  # fmt: skip


def test_damaged_comparisons(compared, tmp_path):
    place = copy_run(compared, tmp_path / "c")
    record = place / "comparison.json"
    whole = record.read_bytes()
    faults: list[str] = []
    for seed in range(2 * MUTATIONS):
        rng = np.random.default_rng(seed)
        said = f"mutation {seed} of {harm(place, ['comparison.json'], rng)}"
        code = answer_to(faults, said, "report", place, "--out", "c.html", "--json")
        if code and (tmp_path / "c.html").exists():
            faults.append(f"{said}: something was written")
        (tmp_path / "c.html").unlink(missing_ok=True)
        if record.is_dir():
            record.rmdir()
        record.write_bytes(whole)
    assert not faults, "\n".join(faults)


@pytest.mark.usefixtures("plain_page")
def test_comparisons_that_go_on_from_damaged_parts(compared, data, quick, tmp_path):
    place = copy_run(compared, tmp_path / "c")
    listed = parts(place, (".json", ".npz", ".npy", ".safetensors", ".toml", ".log"))
    faults: list[str] = []
    for seed in range(MUTATIONS // 4):
        rng = np.random.default_rng(seed)
        names = listed
        if seed % 2:  # one row is to be done again, from the stages that are there
            row = place / "results/deblora/logit-adjusted/seed-0"
            shutil.rmtree(row)
            names = [name for name in listed if name.startswith("stages/deblora")]
        said = f"mutation {seed} of {harm(place, names, rng)}"
        answer_to(faults, said, "compare", data, "--out", place, *compared_words(quick), "--resume")
        if left := [p.name for p in place.rglob("*writing*")]:
            faults.append(f"{said}: {left} was left behind")
        put_back(compared, place)
    assert not faults, "\n".join(faults)


@pytest.mark.usefixtures("plain_report")
def test_runs_that_go_on_from_damaged_parts(finished, data, quick, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    record = json.loads((run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps(record | {"complete": False}))
    whole = copy_run(run, tmp_path / "whole")
    names = parts(run, (".json", ".npz", ".npy", ".safetensors", ".toml"))
    faults: list[str] = []
    for seed in range(MUTATIONS // 2):
        rng = np.random.default_rng(seed)
        said = f"mutation {seed} of {harm(run, names, rng)}"
        answer_to(faults, said, "fit", data, "--out", run, *quick, "--resume")
        if left := [p.name for p in run.rglob("*writing*")]:
            faults.append(f"{said}: {left} was left behind")
        put_back(whole, run)
    assert not faults, "\n".join(faults)


SMALL = {
    "data.image_size": "14", "deblora.clusters": "4", "train.epochs": "1", "deblora.epochs": "1",
    "adapter.rank": "2", "probe.l2": "[0.1, 0.001]", "evaluate.replicates": "20",
    "train.batch_size": "32", "evaluate.label_value": "false",
}  # fmt: skip


def recipe_text(values: dict[str, str]) -> str:
    """Write dotted keys with values that are TOML already."""
    lines = [f"{key} = {value}" for key, value in values.items() if "." not in key]
    for section in dict.fromkeys(key.partition(".")[0] for key in values if "." in key):
        inside = {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"{section}.")}
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in inside.items())]
    return "\n".join(lines) + "\n"


def refused_or_fitted(faults, said, root, *words):
    """A recipe is refused before anything is written, or fits a whole run."""
    before = snapshot(root)
    code = answer_to(faults, said, "fit", *words, "--out", root / "out", "--quiet")
    if code and snapshot(root) != before:
        faults.append(f"{said}: refused after something was written")
    if not code and not json.loads((root / "out/run.json").read_text("utf-8"))["complete"]:
        faults.append(f"{said}: the run is not whole")
    shutil.rmtree(root / "out", ignore_errors=True)


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize("way", ["--recipe", "--set"])
def test_recipes_of_any_value(way, data, encoder, tmp_path):
    keys = [key for key in recipe_keys() if key != "compute.compile"]  # a minute each
    recipe = tmp_path / "r.toml"
    faults: list[str] = []
    for seed in range(2 * MUTATIONS):
        rng = np.random.default_rng([seed, way == "--set"])
        key, value = str(rng.choice(keys)), str(rng.choice(ODD_TOML))
        values = SMALL | {"backbone.name": json.dumps(str(encoder))}
        words = [data, "--recipe", recipe]
        if way == "--set":
            words += ["--set", f"{key}={value}"]
        else:
            values |= {key: value}
        recipe.write_text(recipe_text(values))
        refused_or_fitted(faults, f"mutation {seed}, {key}={value[:60]}", tmp_path, *words)
    assert not faults, "\n".join(faults)


@pytest.mark.usefixtures("plain_report")
def test_damaged_recipes(data, encoder, tmp_path):
    recipe = tmp_path / "r.toml"
    text = recipe_text(SMALL | {"backbone.name": json.dumps(str(encoder))})
    faults: list[str] = []
    for seed in range(MUTATIONS):
        recipe.write_bytes(damaged_text(text, np.random.default_rng(seed)))
        refused_or_fitted(
            faults, f"mutation {seed}", tmp_path, data, "--recipe", recipe, "--backbone", encoder
        )
    assert not faults, "\n".join(faults)
