"""The deliberate breaks of scripts/mutants.py fit the code, and the script tells what it found."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load():
    path = ROOT / "scripts" / "mutants.py"
    spec = importlib.util.spec_from_file_location("mutants", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for the types of its fields
    spec.loader.exec_module(module)
    return module


MUTANTS = load()
each_break = pytest.mark.parametrize("one", MUTANTS.BREAKS, ids=lambda one: one.name)


@each_break
def test_every_break_fits_the_code_once_and_leaves_it_python(one):
    assert MUTANTS.misplaced(one, ROOT) == []
    text = (ROOT / "src" / "tailora" / one.file).read_text("utf-8")
    assert MUTANTS.broken(one, text) != text
    compile(MUTANTS.broken(one, text), one.file, "exec")


@each_break
def test_the_tests_that_must_notice_a_break_exist(one):
    assert one.tests
    for node in one.tests:
        file, _, name = node.partition("::")
        text = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^def {re.escape(name)}\(", text, flags=re.MULTILINE), node


def test_no_two_breaks_have_one_name():
    names = [one.name for one in MUTANTS.BREAKS]
    assert len(names) == len(set(names))


def test_breaks_are_listed_and_unknown_ones_refused(capsys):
    assert MUTANTS.main(["--list", "--only", "tau-split"]) == 0
    assert capsys.readouterr().out.startswith("tau-split: ")
    with pytest.raises(SystemExit):
        MUTANTS.main(["--only", "no-such"])


@pytest.fixture
def project(tmp_path):
    """A project of one function, tested at one of its two limits."""
    (tmp_path / "src" / "tailora").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "src" / "tailora" / "__init__.py").touch()
    (tmp_path / "src" / "tailora" / "within.py").write_text(
        "def within(x):\n    return 0 <= x < 9\n"
    )
    (tmp_path / "tests" / "test_within.py").write_text(
        "from tailora.within import within\n\n\ndef test_zero():\n    assert within(0)\n"
    )
    return tmp_path


def made(old, new, test="test_within.py::test_zero"):
    return MUTANTS.Break(f"{old}{new}", "...", "within.py", ((old, new),), (test,))


@pytest.mark.slow
def test_survivors_are_told_and_the_project_stays_as_it_was(project, capsys):
    file = project / "src" / "tailora" / "within.py"
    before = file.read_bytes()
    noticed, survivor, no_code = made("0 <=", "0 < "), made("< 9", "<= 9"), made("0 <= x", "0 <=")
    assert MUTANTS.report([noticed, survivor, noticed], project, jobs=2) == 1
    said = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in said[:-1]) == ["SURVIVED", "noticed", "noticed"]
    assert said[-1].startswith("2 of 3 breaks noticed")
    assert MUTANTS.report([noticed], project) == 0
    assert MUTANTS.report([no_code], project) == 1  # a file that cannot be imported tests nothing
    assert "NO ANSWER" in capsys.readouterr().out
    assert file.read_bytes() == before


@pytest.mark.slow
def test_tests_that_fail_anyway_notice_nothing(project, capsys):
    (project / "tests" / "test_within.py").write_text("def test_zero():\n    assert False\n")
    assert MUTANTS.report([made("< 9", "<= 9")], project) == 1
    assert "before anything is broken" in capsys.readouterr().out


@pytest.mark.parametrize("old", ["0 <= y", "x"])
def test_a_break_that_fits_nowhere_or_twice_is_refused(old, project, capsys):
    assert MUTANTS.report([made(old, "z")], project) == 1
    assert "not once" in capsys.readouterr().out
