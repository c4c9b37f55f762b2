"""Every script of examples/ runs by itself, offline, and says what its text promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
MAPS = (ROOT / "docs" / "maps.md").read_text("utf-8")  # shows what the script prints
SAYS = {
    "arrays": ("none below", "features moved"),
    "assess_a_map": tuple(re.findall(r"(?m)^[│┃].*$|^map.tif: overall.*$", MAPS)),
    "class_folders": ("deblora", "quarry", "report.html"),
    "compare_methods": ("debLoRA", "cross-entropy", "comparison.html"),
    "deblora_on_a_module": ("classes moved", "trainable params"),
    "scene_to_map": ("hops", "EPSG:32633"),
}


def test_every_script_is_short_and_its_output_known():
    assert {script.stem for script in SCRIPTS} == set(SAYS)
    for script in SCRIPTS:
        assert len(script.read_text("utf-8").splitlines()) < 60, script


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_runs(script, tmp_path):
    offline = {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in SAYS[script.stem]:
        assert words in done.stdout
