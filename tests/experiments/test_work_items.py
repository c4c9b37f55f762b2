"""How a comparison is cut into work items, and that each is done after those it needs."""

import sys
import threading
from types import SimpleNamespace

import pytest

from tailora.config.recipe import Recipe
from tailora.data import open_dataset
from tailora.errors import ConfigError, DataError, RunError
from tailora.experiments import ray_executor
from tailora.experiments.plan import every_combination, make_plan
from tailora.experiments.ray_executor import TOKEN, Place, check_place, do_item, joined
from tailora.experiments.rows import SeedWork
from tailora.experiments.work_items import cut, run_items
from tailora.progress import silent
from tailora.runs.comparison_folder import ComparisonFolder
from tests.end_to_end.chips import write_chips
from tests.tiny import tiny_encoder_folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    encoder = tiny_encoder_folder(tmp_path_factory.mktemp("enc") / "tiny", hidden=16, layers=1)
    return Recipe().override({"backbone.name": str(encoder), "data.image_size": 14})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_dataset(write_chips(tmp_path_factory.mktemp("data") / "chips"))


@pytest.fixture
def works(recipe, data, tmp_path):
    def make(methods, vary=None, seeds=2, probes=(), sets=None):
        plan = make_plan(
            recipe, methods=methods, probes=probes, variants=every_combination(vary or {}),
            seeds=seeds,
        )  # fmt: skip
        folder = ComparisonFolder(tmp_path / "out")
        return [SeedWork(plan, seed, (sets or {}).get(seed, data), folder) for seed in plan.seeds]

    return make


def named(items):
    return {item.name: set(item.after) for item in items}


def test_variants_wait_for_the_lora_they_share(works):
    items = cut(works(["zero-shot", "deblora", "lora"], {"deblora.clusters": [2, 3]}, seeds=1))
    shared = "what seed 0 shares"
    assert named(items) == {
        shared: set(),
        "seed 0, zero-shot": {shared},
        "seed 0, lora": {shared},
        "seed 0, deblora [deblora.clusters=2]": {shared, "seed 0, lora"},
        "seed 0, deblora [deblora.clusters=3]": {shared, "seed 0, lora"},
    }
    assert items[0].rows == ()


def test_rows_stay_together_where_what_they_share_is_no_row(works):
    items = cut(works(["deblora"], {"deblora.clusters": [2, 3]}, seeds=1))
    assert [len(item.rows) for item in items] == [0, 2]


def test_loras_of_different_rank_are_apart(works):
    items = cut(works(["lora", "deblora"], {"adapter.rank": [1, 2]}, seeds=1))
    after = named(items)
    for rank in (1, 2):
        assert (
            f"seed 0, lora [adapter.rank={rank}]" in after[f"seed 0, deblora [adapter.rank={rank}]"]
        )
    assert len(items) == 5


def test_rows_with_the_same_adapters_are_one_piece(works):
    items = cut(works(["clora", "clora+deblora", "clora-oracle"], seeds=1))
    after = named(items)
    assert after["seed 0, clora+deblora"] == {
        "what seed 0 shares",
        "seed 0, clora and clora-oracle",
    }


def test_seeds_of_one_split_share_what_no_seed_changes(works, tmp_path):
    assert [p.name for p in cut(works(["lora"])) if not p.rows] == ["what seed 0 shares"]
    other = open_dataset(write_chips(tmp_path / "chips", seed=3))
    items = cut(works(["lora"], sets={1: other}))
    assert [p.name for p in items if not p.rows] == ["what seed 0 shares", "what seed 1 shares"]


def test_what_is_done_is_in_no_piece(works):
    found = works(["zero-shot", "lora"])
    for work in found:
        for probe in ("own", "logit-adjusted"):
            place = work.folder.result("lora", probe, work.seed)
            place.mkdir(parents=True)
            (place / "metrics.json").write_text("{}")
    assert {p.name for p in cut(found)} == {
        "what seed 0 shares", "seed 0, zero-shot", "seed 1, zero-shot",
    }  # fmt: skip


class Executor:
    """Ends what was begun last first, and notes the order."""

    def __init__(self, failing=None):
        self.begun, self.ended, self.failing, self.most = [], [], failing, 0

    def start(self, item):
        assert item.after <= set(self.ended)
        self.begun.append(item.name)
        return item.name

    def wait(self, running):
        self.most = max(self.most, len(running))
        if running[-1] == self.failing:
            raise DataError("broken")
        self.ended.append(running[-1])
        return running[-1]


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2), (100, 6)])
def test_every_piece_is_done_once_after_those_it_needs(works, at_once, most):
    items = cut(works(["zero-shot", "lora", "fine-tune", "deblora"]))
    executor, ended = Executor(), []
    run_items(items, executor, at_once=at_once, ended=lambda: ended.append(1))
    assert sorted(executor.begun) == sorted(p.name for p in items)
    assert len(ended) == len(items)
    assert executor.most == most


def test_after_a_failure_nothing_is_begun(works):
    executor = Executor(failing="seed 0, lora")
    with pytest.raises(DataError, match="broken"):
        run_items(cut(works(["lora", "deblora"])), executor, at_once=1, ended=lambda: None)
    assert "seed 0, deblora" not in executor.begun
    assert executor.begun[-1] == "seed 0, lora"


class StandIn:
    """What tailora asks of Ray, done at once in this process."""

    class exceptions:  # noqa: N801 - a module of Ray
        RayError = type("RayError", (Exception,), {})

    exceptions.RayTaskError = type("RayTaskError", (exceptions.RayError,), {})

    def __init__(self, machines=({"CPU": 4.0},), joined=False):
        self.machines, self.joined, self.calls = machines, joined, []

    def is_initialized(self):
        return self.joined

    def init(self, **options):
        self.calls.append(("init", options["address"]))
        if options["address"] == "nowhere":
            raise ConnectionError("nobody answers")

    def shutdown(self):
        self.calls.append(("shutdown",))

    def nodes(self):
        return [{"Alive": True, "Resources": found} for found in self.machines]

    def remote(self, **needs):
        self.calls.append(("needs", needs))
        return lambda function: SimpleNamespace(options=lambda name: Task(function, name))

    def wait(self, running, num_returns=1, timeout=None):
        if timeout == 0:
            ended = [task for task in running if task.ended]
            return ended, [task for task in running if not task.ended]
        return list(running[:num_returns]), []

    def get(self, task):
        return task.result()

    def cancel(self, task):
        self.calls.append(("cancel", task.name))

    def get_runtime_context(self):
        return SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0})


class Task:
    def __init__(self, function, name):
        self.function, self.name, self.ended = function, name, False

    def remote(self, *given):
        self.given = given
        return self

    def result(self):
        self.ended = True
        try:
            return self.function(*self.given)
        except DataError as error:
            wrapped = StandIn.exceptions.RayTaskError(str(error))
            wrapped.cause = error
            raise wrapped from error


def run_on_ray(works, address, *, jobs, progress):
    with joined(address, jobs) as cluster:
        cluster.do(cut(works), works[0].folder.path, progress)


@pytest.fixture
def stand_in(monkeypatch):
    ray = StandIn()
    monkeypatch.setattr(ray_executor, "import_ray", lambda: ray)
    return ray


@pytest.fixture
def idle(stand_in, monkeypatch):
    """A cluster where every item is done in no time."""
    monkeypatch.setattr(ray_executor, "do_item", lambda *_: None)
    return stand_in


def test_pieces_reach_the_cluster_with_what_they_need(works, stand_in, monkeypatch):
    done = []
    monkeypatch.setattr(ray_executor, "do_item", lambda item, place: done.append((item, place)))
    found = works(["lora", "deblora"])
    found[0].folder.path.mkdir()
    run_on_ray(found, "auto", jobs=None, progress=silent)
    assert sorted(item.name for item, _ in done) == sorted(item.name for item in cut(found))
    assert {place.folder for _, place in done} == {found[0].folder.path}
    assert stand_in.calls == [
        ("init", "auto"), ("needs", {"max_retries": 0, "num_cpus": 2}), ("shutdown",),
    ]  # fmt: skip
    assert not (found[0].folder.path / TOKEN).exists()


@pytest.mark.parametrize(
    ("machines", "jobs", "needs"),
    [
        ([{"CPU": 1.0}], None, {"num_cpus": 1}),
        ([{"CPU": 64.0}, {"CPU": 2.0}], None, {"num_cpus": 2}),
        ([{"CPU": 2.0}], 2, {"num_cpus": 1}),
        ([{"CPU": 16.0}, {"CPU": 1.0, "GPU": 1.0}], None, {"num_cpus": 1, "num_gpus": 1}),
    ],
)
def test_a_piece_asks_for_no_more_than_a_machine_has(works, idle, machines, jobs, needs):
    idle.machines = machines
    run_on_ray(works(["lora"], seeds=1), "auto", jobs=jobs, progress=silent)
    assert ("needs", {"max_retries": 0, **needs}) in idle.calls


def test_a_cluster_that_the_caller_has_joined_is_kept(works, idle):
    idle.joined = True
    run_on_ray(works(["lora"]), "auto", jobs=None, progress=silent)
    assert {call[0] for call in idle.calls} == {"needs"}


def test_no_cluster_is_one_line(works, stand_in):
    for address in ("nowhere", "127.0.0.1:1"):  # Ray says so; nobody listens there
        with pytest.raises(ConfigError, match=rf"no Ray cluster at '{address}'.*ray start --head"):
            run_on_ray(works(["lora"]), address, jobs=None, progress=silent)
    assert stand_in.calls == [("init", "nowhere")]


def test_the_error_of_a_piece_ends_the_sweep(works, stand_in, monkeypatch):
    def fail(item, place):
        if item.rows:
            raise DataError("broken image")

    monkeypatch.setattr(ray_executor, "do_item", fail)
    with pytest.raises(DataError, match=r"^broken image$"):
        run_on_ray(works(["lora"]), "auto", jobs=None, progress=silent)
    # the other seed was under way; to cancel what has ended would be the end of this process
    assert stand_in.calls[-2:] == [("cancel", "seed 1, lora"), ("shutdown",)]


def test_a_lost_machine_says_how_to_go_on(works, stand_in, monkeypatch):
    def die(item, place):
        raise stand_in.exceptions.RayError("node died\nand much more")

    monkeypatch.setattr(ray_executor, "do_item", die)
    with pytest.raises(RunError, match=r"failed \(node died\).*--resume"):
        run_on_ray(works(["lora"]), "auto", jobs=None, progress=silent)


def test_a_machine_must_see_the_folder(tmp_path):
    (tmp_path / TOKEN).write_text("mine")
    check_place(Place(tmp_path, "mine"), within=0.0)
    for place in (Place(tmp_path, "another"), Place(tmp_path / "elsewhere", "mine")):
        with pytest.raises(RunError, match="storage that all machines see"):
            check_place(place, within=0.0)


def test_a_token_may_be_seen_late(tmp_path):
    timer = threading.Timer(0.05, lambda: (tmp_path / TOKEN).write_text("mine"))
    timer.start()
    check_place(Place(tmp_path, "mine"), within=1.0)
    timer.join()


def test_a_machine_must_have_the_same_tailora(tmp_path):
    with pytest.raises(RunError, match=r"has tailora .* started by 0\.0\.1"):
        check_place(Place(tmp_path, "mine", version="0.0.1"))


def test_another_encoder_on_a_machine_is_refused(works, recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", StandIn())
    [_, item] = cut(works(["lora"], seeds=1))
    item.work.folder.path.mkdir()
    (item.work.folder.path / TOKEN).write_text("mine")
    other = item.__class__(item.name, item.work, item.rows, item.stages[:1], item.after)
    with pytest.raises(RunError, match=r"seed 0, lora, on .*: encoder weights or data differ"):
        do_item(other, Place(item.work.folder.path, "mine", start=tmp_path))


def test_without_ray_the_error_says_what_to_install(works, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'pip install "tailora\[ray\]"'):
        run_on_ray(works(["lora"]), "auto", jobs=None, progress=silent)
