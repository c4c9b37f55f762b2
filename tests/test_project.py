"""What the project promises about itself: layout, documentation, generated numbers."""

import importlib.util
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tailora
from benchmarks.page import __main__ as benchmarks_page
from benchmarks.page.growth_figures import digest
from tailora import registry
from tailora.augment.moved_objects import OBJECTS
from tailora.augment.nadir import NADIR
from tailora.cli.describe import AUGMENTATION_TEXTS, OBJECTIVE_TEXTS, guard
from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts
from tailora.experiments.plan import check_plan, make_plan
from tailora.methods.checks import check_recipe
from tailora.methods.training_objectives import OBJECTIVES
from tailora.train.objectives import AUGMENTATIONS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_nothing_is_called_utils_or_helpers():
    assert not [p for p in SOURCES if re.search(r"util|helper|common|misc", p.stem)]


def test_every_public_name_is_there_and_documented():
    texts = "".join(
        p.read_text("utf-8") for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    )
    for name in tailora.__all__:
        assert getattr(tailora, name).__doc__, name
        assert name in texts, f"{name} is public but stands in no document"


PACKAGES = [
    ".".join(path.parent.relative_to(ROOT / "src").parts)
    for path in SOURCES
    if path.name == "__init__.py" and "\n__all__ = " in path.read_text("utf-8")
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_stands_in_the_reference(package):
    found = [p.read_text("utf-8") for p in (ROOT / "docs" / "reference").glob("*.md")]
    shown = re.findall(r"(?m)^::: (\S+)", "\n".join(found))
    assert shown.count(package) == 1
    # the reference is read from the source: a module hides the function of its own name
    folder = ROOT / "src" / package.replace(".", "/")
    hidden = {
        f"{package}.{name}.{name}"
        for name in importlib.import_module(package).__all__
        if (folder / f"{name}.py").exists()
    }
    assert hidden <= set(shown)


def test_everything_in_the_reference_is_there():
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for name in re.findall(r"(?m)^::: (\S+)", page.read_text("utf-8")):
            assert pkgutil.resolve_name(name).__doc__, name


def test_the_files_that_an_extension_touches_are_there():
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
    named = list(re.findall(r"`((?:src|tests|docs)/[^`]*)`", text))
    assert named
    for path in named:  # NAME is the new part, SHELF any shelf
        there = path.replace("test_NAME.py", "test_*.py").replace("NAME.py", "*.py")
        assert list(ROOT.glob(there.replace("SHELF", "losses"))), path


def test_importing_tailora_does_not_import_torch():
    code = "import sys, tailora; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_dependency_has_its_reason_beside_its_bound():
    section = (ROOT / "pyproject.toml").read_text("utf-8").partition("\ndependencies = [")[2]
    lines = section.partition("\n]")[0].strip().splitlines()
    assert lines
    assert not [line for line in lines if not re.search(r'">?=?.*",\s+# \w', line)]


def test_constraints_pin_what_pyproject_asks_for():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    }
    assert {re.split(r"[<>=]", name)[0] for name in asked} <= pinned


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def publish():
    return script("publish_demo")


def test_the_pages_of_results_are_what_the_committed_results_give():
    module = script("results_page")
    written = {p.name: p.read_text("utf-8") for p in module.FOLDER.glob("*.md")}
    assert written == module.pages(module.RESULTS)


def test_the_benchmarks_page_is_what_the_committed_results_give():
    found = benchmarks_page.read(benchmarks_page.RESULTS)
    text = benchmarks_page.PAGE.read_text("utf-8")
    assert text == benchmarks_page.page(found)
    figures = re.findall(r"\(images/(.*?\.svg)\)", text)
    assert figures
    for name in figures:
        svg = (benchmarks_page.IMAGES / name).read_text("utf-8")
        assert digest(found["growth"]) in svg, f"{name}: run python -m benchmarks.page"


@pytest.mark.parametrize(
    "file", sorted((ROOT / "benchmarks" / "experiments").glob("*.toml")), ids=lambda f: f.stem
)
def test_every_experiment_can_be_planned(file):
    asked = tomllib.loads(file.read_text("utf-8"))
    names = tuple("abcdef")
    if asked.get("recipe", {}).get("task") == "change":
        names = ("a → a", "b → b", "a → b", "b → a", "a → c", "c → a")
    counts = ClassCounts(names, (400, 300, 200, 100, 50, 20))
    plan = make_plan(
        Recipe().override(asked.get("recipe", {})),
        methods=asked["methods"],
        probes=asked.get("probes", []),
        variants=[asked.get("every", {}) | one for one in asked.get("variants", [{}])],
        seeds=asked["seeds"],
    )
    check_plan(plan, counts)
    for row in plan.adaptations:
        check_recipe(row.recipe, counts, n_val=100)


def test_the_pages_of_methods_are_what_the_code_gives():
    module = script("methods_page")
    written = {p.name: p.read_text("utf-8") for p in module.FOLDER.glob("*.md")}
    assert written == module.pages()


@pytest.mark.parametrize("family", [*registry.FAMILIES, "metrics"])
def test_every_method_names_a_test_that_knows_it(family):
    for name, entry in registry.entries(family).items():
        test = (ROOT / guard(family, name)).read_text("utf-8")
        assert entry.symbol in test, name


def test_every_objective_is_listed():
    assert set(OBJECTIVE_TEXTS) == set(OBJECTIVES)


def test_every_augmentation_is_listed():
    assert set(AUGMENTATION_TEXTS) == {*AUGMENTATIONS, NADIR, OBJECTS}


def test_the_readme_shows_the_committed_demo_and_nothing_else(publish):
    readme = (ROOT / "README.md").read_text("utf-8")
    assert publish.with_demo(readme, publish.RESULT) == readme
    assert "macro-F1 in points" in readme
    assert publish.SCORES.read_text("utf-8") == publish.scores_picture(publish.RESULT)


def test_the_labelling_tutorial_shows_the_committed_session(monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.syspath_prepend(ROOT / "scripts")
    tutorial = script("labelling_tutorial")
    text = tutorial.TUTORIAL.read_text("utf-8")
    assert tutorial.with_result(text, tutorial.RESULT) == text
    assert text.count("| this session |") == 1


def test_pictures_of_the_readme_exist():
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8")):
        assert (ROOT / target).is_file(), target
