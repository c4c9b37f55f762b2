"""`tailora compare --ray` on a real cluster of two processes, where Ray is installed."""

import json
import warnings

import pytest

from tests.end_to_end.chips import succeed, tailora, write_chips

pytest.importorskip("ray")


@pytest.fixture(autouse=True)
def _warnings_of_ray():
    with warnings.catch_warnings():  # it warns of its own future, not of ours
        warnings.simplefilter("ignore")
        yield


def content(out):
    return json.loads((out / "comparison.json").read_text("utf-8"))


def test_a_cluster_gives_what_one_process_does_and_goes_on(data, quick, tmp_path):
    words = ["compare", data, *quick, "--seeds", 2, "--methods", "zero-shot,lora,deblora"]
    succeed(*words, "--out", tmp_path / "one", "--jobs", 1)
    # what is done before, without Ray, is taken
    succeed("compare", data, *quick, "--seeds", 1, "--methods", "lora", "--out", tmp_path / "ray")
    [done] = (tmp_path / "ray" / "stages").glob("lora-*/adapter/adapter_model.safetensors")
    before = done.stat().st_mtime_ns
    succeed(*words, "--out", "ray", "--ray", "local", "--jobs", 2, "--resume")
    assert done.stat().st_mtime_ns == before
    one, ray = content(tmp_path / "one"), content(tmp_path / "ray")
    assert ray["complete"]
    assert [row["scores"] for row in ray["rows"]] == [row["scores"] for row in one["rows"]]
    names = [sorted(p.name for p in (tmp_path / n / "stages").iterdir()) for n in ("one", "ray")]
    assert names[0] == names[1]


def test_a_failing_piece_is_one_line_and_what_is_done_stays(quick, tmp_path):
    chips = write_chips(tmp_path / "chips")
    next((chips / "007").iterdir()).write_bytes(b"no image")
    answer = tailora("compare", chips, *quick, "--out", "out", "--seeds", 1, "--methods", "lora",
                     "--ray", "local", "--jobs", 1)  # fmt: skip
    assert answer.code == 2
    assert "error: what seed 0 shares, on " in answer.err
    assert "--skip-broken" in answer.err
    assert not (tmp_path / "out" / ".sweep-token").exists()
    assert not content(tmp_path / "out")["complete"]


def test_trials_on_a_cluster_choose_what_one_process_chooses(data, quick, tmp_path):
    pytest.importorskip("optuna")
    words = ["compare", data, *quick, "--seeds", 1, "--methods", "deblora", "--trials", 3,
             "--tune", "deblora.pull=0..1"]  # fmt: skip
    succeed(*words, "--out", tmp_path / "one", "--jobs", 1)
    succeed(*words, "--out", tmp_path / "ray", "--ray", "local", "--jobs", 2)
    found = [content(tmp_path / name)["tuning"]["rows"][0] for name in ("one", "ray")]
    for row in found:
        for trial in row["trials"]:
            del trial["seconds"]
    assert found[0] == found[1]
