"""Where a run came from: versions, machine and state of the working tree."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, final

PACKAGES = ("tailora", "torch", "peft", "transformers", "accelerate", "scikit-learn", "numpy")


@final
@dataclass(frozen=True)
class Machine:
    """Where something was measured; fields are None where the record lacks them.

    Args:
        cpu: Processor.
        cores: Number of cores usable by the process.
        memory_gb: Main memory in GB.
        platform: Operating system.
        device: Device that torch computed on.
        processes: Number of processes of the run.
    """

    cpu: str | None = None
    cores: int | None = None
    memory_gb: float | None = None
    platform: str | None = None
    device: str | None = None
    processes: int | None = None


@final
@dataclass(frozen=True)
class GitState:
    """Commit of the working tree, and whether it had uncommitted changes."""

    commit: str | None = None
    dirty: bool | None = None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def machine(device: str) -> dict[str, Any]:
    """Processor, cores usable by this process, memory in GB, platform and device."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "platform": platform.platform(),
        "device": device,
    }


def git_state(*within: str) -> dict[str, Any] | None:
    """Commit of the current repository and whether it has changes; None outside a repository.

    Args:
        within: Folders whose changes count; empty means all.
    """
    try:
        changes = _git("status", "--porcelain", "--", *within)
        return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
