"""Work items of a comparison as tasks of a Ray cluster; results lie in a folder all machines see.

Ray only carries work items to machines. What is to be done, and what is there already, is decided
by the folder, so an interrupted sweep continues with `--resume`, with Ray or without.

Reference: Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018.
"""

import importlib
import os
import platform
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

from tailora.errors import ConfigError, RunError, TailoraError
from tailora.experiments.work_items import WorkItem, run_items, use_threads
from tailora.progress import Progress
from tailora.storage import write_text

INSTALL: Final = 'pip install "tailora[ray]"'
TOKEN: Final = ".sweep-token"

_LOCAL: Final = "local"
_CORES: Final = 2  # of a work item, where a machine has as many
_VISIBLE_WITHIN: Final = 60.0  # seconds: network file systems remember for a while what was absent
_STOPPED_WITHIN: Final = 30.0
_ANSWERS_WITHIN: Final = 5.0


@dataclass(frozen=True)
class Place:
    """What a machine must find to work on a sweep.

    Args:
        folder: Of the comparison, absolute.
        token: Content of its `TOKEN`.
        start: Folder that relative paths of the command are meant from.
        version: Of tailora.
    """

    folder: Path
    token: str
    start: Path = field(default_factory=Path.cwd)
    version: str = field(default_factory=lambda: metadata.version("tailora"))


@dataclass(frozen=True)
class RayExecutor:
    """Does work items on a cluster; a `work_items.Executor`.

    Args:
        ray: The module.
        task: What runs a work item there.
        place: What machines must find.
    """

    ray: Any
    task: Any
    place: Place

    def start(self, item: WorkItem) -> Any:
        """Queue a work item."""
        return self.task.options(name=item.name).remote(item, self.place)

    def wait(self, running: Sequence[Any]) -> Any:
        """Return one task that has ended.

        Raises:
            TailoraError: It failed, or its machine did.
        """
        try:
            [ended], _ = self.ray.wait(running, num_returns=1)
            self.ray.get(ended)
        except BaseException as error:
            self._stop(running)
            cause = _cause(error, self.ray)
            if cause is error:
                raise
            raise cause from error
        return ended

    def _stop(self, running: Sequence[Any]) -> None:
        """Cancel what has not ended, so that nothing writes into the folder later.

        Ray aborts this process when a task that has ended is cancelled (seen with 2.60).
        """
        _, going = self.ray.wait(running, num_returns=len(running), timeout=0)
        for task in going:
            self.ray.cancel(task)
        if going:
            self.ray.wait(going, num_returns=len(going), timeout=_STOPPED_WITHIN)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that was joined.

    Args:
        ray: The module.
        jobs: Most work items at once; None lets the cluster's cores and GPUs decide.
    """

    ray: Any
    jobs: int | None

    def do(self, items: Sequence[WorkItem], folder: Path, progress: Progress) -> None:
        """Do all work items of a comparison.

        Args:
            items: What `work_items.cut` gives.
            folder: Of the comparison, absolute; all machines see it.
            progress: Shows how many are done.

        Raises:
            RunError: A machine does not see the folder, has another tailora, or was lost.
            TailoraError: Whatever a work item raised; what is done stays.
        """
        if not items:
            return
        needs = _needs(self.ray, self.jobs)
        task = self.ray.remote(max_retries=0, **needs)(do_item)
        with _marked(folder) as place, progress("work items", len(items)) as advance:
            executor = RayExecutor(self.ray, task, place)
            at_once = self.jobs or len(items)
            run_items(items, executor, at_once=at_once, ended=lambda: advance(1))


@contextmanager
def joined(address: str, jobs: int | None) -> Iterator[Cluster]:
    """Join a Ray cluster, or start one; one that the caller has joined is taken and kept.

    Args:
        address: `"auto"` for the cluster this machine belongs to, `HOST:PORT`, `ray://HOST:PORT`,
            or `"local"` for one on this machine that ends here.
        jobs: Most work items at once.

    Raises:
        ConfigError: Ray is absent, or there is no cluster.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield Cluster(ray, jobs)
        return
    own: dict[str, Any] = {}
    if address == _LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        own = {"include_dashboard": False, "num_cpus": max(jobs or 1, os.cpu_count() or 1)}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster at {address!r}: start one with `ray start --head`, or give --ray local"
        ) from error
    try:
        yield Cluster(ray, jobs)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """See whether somebody listens at `HOST:PORT`: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), _ANSWERS_WITHIN).close()


def import_ray() -> ModuleType:
    """Import Ray.

    Raises:
        ConfigError: It is absent.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray, which cannot be imported; {INSTALL}") from error


def do_item(item: WorkItem, place: Place) -> None:
    """Do a work item on the machine it was sent to.

    Raises:
        TailoraError: With the names of item and machine in front.
    """
    context: Any = import_ray().get_runtime_context()
    cores = max(1, int(context.get_assigned_resources().get("CPU", 1)))
    use_threads(cores)
    try:
        check_place(place)
        with _from(place.start):
            _check_stages(item)
            item.do()
    except TailoraError as error:
        raise type(error)(f"{item.name}, on {platform.node()}: {error}") from error


def check_place(place: Place, *, within: float = _VISIBLE_WITHIN) -> None:
    """Reject a machine that does not see the comparison's folder, or has another tailora.

    Args:
        place: What it must find.
        within: Seconds to wait for the token to be seen.

    Raises:
        RunError: It does not.
    """
    own = metadata.version("tailora")
    if own != place.version:
        raise RunError(f"this machine has tailora {own}, the sweep was started by {place.version}")
    deadline = time.monotonic() + within
    while _token(place.folder) != place.token:
        if time.monotonic() > deadline:
            raise RunError(
                f"{str(place.folder)!r} is not the folder that the sweep was started in: --out "
                "must lie on storage that all machines see under the same path"
            )
        time.sleep(min(1.0, within / 4))


def _token(folder: Path) -> str | None:
    try:
        return (folder / TOKEN).read_text("utf-8")
    except OSError:
        return None


def _check_stages(item: WorkItem) -> None:
    if item.stages_here() != item.stages:
        raise RunError(
            "encoder weights or data differ from those of the machine that began the sweep; give "
            "all machines the same"
        )


@contextmanager
def _marked(folder: Path) -> Iterator[Place]:
    """Leave a token in the folder for as long as machines work in it."""
    place = Place(folder, uuid4().hex)
    write_text(folder / TOKEN, place.token)
    try:
        yield place
    finally:
        (folder / TOKEN).unlink(missing_ok=True)


@contextmanager
def _from(folder: Path) -> Iterator[None]:
    """Work from the folder that the command was called in, where this machine has it."""
    before = Path.cwd()
    if folder.is_dir():
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _needs(ray: Any, jobs: int | None) -> dict[str, Any]:
    """Cores and GPUs of a work item: a GPU where the cluster has some, else two cores."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpu = any(machine.get("GPU", 0) >= 1 for machine in machines)
    cores = [int(machine.get("CPU", 0)) for machine in machines if not gpu or machine.get("GPU")]
    share = sum(cores) // jobs if jobs else _CORES
    found: dict[str, Any] = {"num_cpus": max(1, min(_CORES, share, max(cores)))}
    return found | ({"num_gpus": 1} if gpu else {})


def _cause(error: BaseException, ray: Any) -> BaseException:
    """What went wrong in a task, without Ray's wrapping."""
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = getattr(error, "cause", None)
        return cause if isinstance(cause, BaseException) else error
    if isinstance(error, ray.exceptions.RayError):
        lines = str(error).splitlines() or [type(error).__name__]
        return RunError(
            f"a machine of the Ray cluster failed ({lines[0]}); every machine needs this version "
            "of tailora; what is done is kept, continue with --resume"
        )
    return error
