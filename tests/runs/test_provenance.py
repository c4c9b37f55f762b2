import platform
import shutil
import subprocess
from importlib import metadata

import pytest

from tailora.runs.provenance import PACKAGES, git_state, machine, versions


def test_versions_are_those_of_the_packages_that_decide_the_numbers():
    found = versions()
    assert set(found) == {"python", *PACKAGES}
    assert found["python"] == platform.python_version()
    assert found["numpy"] == metadata.version("numpy")


def test_a_package_that_is_not_installed_is_said_to_be_so(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("tailora.runs.provenance.metadata.version", missing)
    assert versions()["torch"] == "not installed as a package"


def test_the_machine_is_described():
    found = machine("cpu")
    assert set(found) == {"cpu", "cores", "memory_gb", "platform", "device"}
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0
    assert found["device"] == "cpu"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_and_dirtiness_of_the_repository_are_noted(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    assert git_state() is None  # nothing is committed yet
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "new.txt").touch()
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": True}
    assert git_state("src")["dirty"] is False


def test_outside_of_a_repository_there_is_no_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None


def test_without_git_there_is_no_state(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state() is None
