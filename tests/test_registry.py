import importlib
import inspect

import pytest
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from tailora import registry
from tailora.adapters import tuner_names
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses import CrossEntropyLoss, LDAMLoss, LogitAdjustedLoss
from tailora.methods.method import Method
from tailora.samplers import MPerClassSampler
from tailora.source import definition, exports

EVERY = [(family, name) for family in registry.FAMILIES for name in registry.names(family)]
COUNTS = ClassCounts(("a", "b"), (9, 1))

each_method = pytest.mark.parametrize(("family", "name"), EVERY)


def test_losses_and_samplers_have_the_names_people_search_for():
    assert {
        "cross-entropy",
        "balanced-softmax",
        "logit-adjusted",
        "focal",
        "class-balanced",
        "ldam",
    } <= set(registry.names("losses"))
    assert {
        "class-balanced",
        "square-root",
        "progressive",
        "effective-number",
        "m-per-class",
        "oversampling",
        "undersampling",
        "stratified",
    } <= set(registry.names("samplers"))
    assert {"cosine", "lws", "reslt", "tau-normalise", "nearest-class-mean"} <= set(
        registry.names("heads")
    )


@each_method
def test_a_method_is_found_by_the_name_it_is_listed_under(family, name):
    assert registry.method_name(registry.find(family, name)) == name


@each_method
def test_every_method_says_what_it_does_and_where_it_comes_from(family, name):
    method = registry.find(family, name)
    assert registry.summary(method).endswith(".")
    reference = registry.reference(method)
    assert any(char.isdigit() for char in reference)
    assert "\n" not in reference
    assert reference.endswith(".")


@each_method
def test_every_option_has_a_default_and_is_described(family, name):
    method = registry.find(family, name)
    for option, default in registry.options(method).items():
        assert default is not inspect.Parameter.empty
        assert f"{option}:" in inspect.getdoc(method)
    assert all(f"{fact}:" in inspect.getdoc(method) for fact in registry.needs(method))


@pytest.mark.parametrize("family", [*registry.FAMILIES, "methods", "metrics"])
def test_what_is_read_from_source_is_what_is_there(family):
    package = importlib.import_module(f"tailora.{family}")
    parts = [getattr(package, symbol) for symbol in package.__all__]
    if family == "metrics":
        parts = [part for part in parts if inspect.isfunction(part)]
    read = registry.entries(family)
    assert set(read) == {registry.method_name(part) for part in parts}
    for part in parts:
        entry = read[registry.method_name(part)]
        assert registry.find(family, registry.method_name(part)) is part
        assert (entry.module, entry.symbol) == (part.__module__, part.__name__)
        assert entry.document == inspect.getdoc(part)
        assert (entry.summary, entry.reference) == (
            registry.summary(part), registry.reference(part),
        )  # fmt: skip
        assert entry.options == registry.options(part)
        assert entry.attributes == {key: getattr(part, key) for key in entry.attributes}


def test_all_that_a_method_says_of_itself_is_known_without_it():
    said = set(Method.__annotations__) - {"experts"}  # which is no constant
    for facts in registry.method_facts().values():
        assert said <= set(facts)


def test_tuners_are_those_of_peft():
    known = {kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    read = definition("peft.utils.peft_types", "PeftType").attributes()
    assert {kind.lower() for kind in read.values()} == known
    assert set(tuner_names()) - known == {"dora", "rslora", "pissa", "olora"}


@pytest.mark.parametrize("package", ["adapters", "backbones", "data", "methods", "metrics"])
def test_packages_that_import_when_asked_have_all_they_promise(package):
    module = importlib.import_module(f"tailora.{package}")
    for name in module.__all__:
        assert not inspect.ismodule(getattr(module, name)), name
        # also after a module of the same name was imported
        importlib.import_module(exports(f"tailora.{package}")[name])
        assert not inspect.ismodule(getattr(module, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_facts_are_positional_and_options_are_keyword_only():
    assert registry.needs(LogitAdjustedLoss) == ("counts",)
    assert registry.options(LogitAdjustedLoss) == {
        "tau": 1.0, "prior": "samples", "ignore_index": -100,
    }  # fmt: skip
    assert registry.needs(MPerClassSampler) == ("labels", "batch_size", "rank", "world_size")
    assert registry.options(MPerClassSampler) == {"m": 4, "seed": 0}


def test_builds_from_the_facts_a_method_needs_and_the_options_chosen():
    facts = {"counts": COUNTS, "labels": [0, 1], "rank": 0}
    loss = registry.build(LDAMLoss, facts, {"scale": 20.0})
    assert (loss.scale, loss.max_margin) == (20.0, 0.5)
    sampler = registry.build(MPerClassSampler, {**facts, "batch_size": 2}, {"m": 1})
    assert (sampler.m, sampler.rank, sampler.world_size) == (1, 0, 1)
    elsewhere = {**facts, "batch_size": 2, "rank": 1, "world_size": 2}
    sampler = registry.build(MPerClassSampler, elsewhere, {"m": 1})
    assert (sampler.rank, sampler.world_size) == (1, 2)


def test_an_option_that_a_method_does_not_have_is_refused():
    with pytest.raises(ConfigError) as caught:
        registry.build(LogitAdjustedLoss, {"counts": COUNTS}, {"temperature": 2})
    says = "logit-adjusted has no option 'temperature'; it has tau, prior, ignore_index"
    assert str(caught.value) == says
    balanced_softmax = registry.find("losses", "balanced-softmax")
    with pytest.raises(ConfigError, match="has no option 'weights'; it has ignore_index"):
        registry.build(balanced_softmax, {"counts": COUNTS}, {"weights": "inverse"})


def test_a_fact_is_no_option():
    with pytest.raises(ConfigError, match="cross-entropy has no option 'counts'"):
        registry.build(CrossEntropyLoss, {"counts": COUNTS}, {"counts": COUNTS})


def test_a_fact_that_is_not_known_is_named():
    with pytest.raises(ConfigError, match="m-per-class needs labels, batch_size, which is unknown"):
        registry.build(MPerClassSampler, {"counts": COUNTS}, {})


def test_unknown_families_and_names_get_the_nearest():
    with pytest.raises(ConfigError, match="unknown family 'loses'; did you mean 'losses'"):
        registry.names("loses")
    with pytest.raises(ConfigError, match="unknown loss 'lgit-adjusted'; did you mean 'logit-adj"):
        registry.find("losses", "lgit-adjusted")
    with pytest.raises(ConfigError, match="unknown sampler 'ldam'"):
        registry.find("samplers", "ldam")


def test_what_is_registered_without_a_docstring_is_named():
    class Mine(LDAMLoss):
        pass

    with registry.lent({("losses", "mine"): Mine}):
        assert registry.entries("losses")["mine"].summary == f"Mine of {__name__}"
