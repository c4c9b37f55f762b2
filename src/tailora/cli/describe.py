"""What `tailora methods` lists, without importing the methods."""

import inspect
import re
from difflib import get_close_matches
from typing import Any

from tailora import registry, source
from tailora.adapters import tuner_names
from tailora.config import recipe as recipes
from tailora.errors import ConfigError

_NEAR = 0.6  # ratio of what two spellings have in common
# sections that are not specific to a method
_OF_ALL = (*source.constant("tailora.methods.method", "INPUT"), "evaluate")
OBJECTIVE_TEXTS = {
    "labels": "classes: `train.loss` on the logits of a jointly trained head",
    "supcon": "classes: supervised contrastive learning of two views per image (Khosla et al., "
    "NeurIPS 2020)",
    "sbcl": "classes and balanced subclasses: subclass-balanced contrastive learning (Hou et "
    "al., ICCV 2023)",
    "paco": "classes: contrastive learning with class centres and a queue (Cui et al., ICCV 2021)",
    "self-distillation": "no labels: predict the pretrained features of an image from augmented "
    "views (after Caron et al., ICCV 2021)",
    "masked": "no labels: predict the pretrained features of an image from half of it (after "
    "Baevski et al., ICML 2022)",
    "denoising": "no labels: predict the noise in noisy images, for diffusion models (Ho et al., "
    "NeurIPS 2020)",
    "rotation": "no labels: predict the rotation of an image (Yang and Xu, NeurIPS 2020)",
}
AUGMENTATION_TEXTS = {
    "dihedral": "the eight flips and quarter turns, all equally likely",
    "nadir": "flips, quarter turns, and random changes of scale, brightness, contrast, colour and "
    "sharpness that suit images seen from above (after RandAugment, Cubuk et al., CVPR Workshops "
    "2020)",
    "speckle": "multiplicative noise, for radar",
    "dihedral+speckle": "flips and quarter turns, and speckle",
    "objects": "of `--task detect`: flips and quarter turns, any angle, other sizes, rare objects "
    "pasted",
    "none": "images as they are",
}


def listing() -> dict[str, dict[str, Any]]:
    """Every family with one line per name."""
    families: dict[str, dict[str, Any]] = {"methods": method_texts()}
    for family in registry.FAMILIES:
        families[family] = _texts(family)
    families["probes"] = registry.head_texts()
    families["backbones"] = _encoder_texts()
    families["objectives"] = dict(OBJECTIVE_TEXTS)
    families["augmentations"] = dict(AUGMENTATION_TEXTS)
    families["tasks"] = {
        name: entry.attributes["summary"] for name, entry in registry.entries("tasks").items()
    }
    families["metrics"] = _texts("metrics")
    families["tuners"] = {name: f"PEFT's {name}" for name in tuner_names()}
    families["recipe"] = dict(recipes.recipe_keys())
    return families


def _texts(family: str) -> dict[str, str]:
    return {name: one_line(entry) for name, entry in sorted(registry.entries(family).items())}


def method_texts() -> dict[str, str]:
    """What each method of `fit` and `compare` does, and where it can be used, by name."""
    facts = registry.method_facts()
    found = {}
    for name in registry.compared_methods():
        about = facts[name]
        paper = f" ({about['reference']})" if about["reference"] else ""
        only = "; `tailora compare` only" if about["only_compared"] else ""
        found[name] = f"{about['summary']}{paper}{only}"
    return found


_HOW = {
    "objectives": "set as train.objective_options",
    "backbones": "set as backbone.options",
    "augmentations": "set as train.augment, options as train.augment_options",
    "tasks": "none",
}


def _encoder_texts() -> dict[str, str]:
    """Encoders by name, or by the form of their name."""
    shipped = {
        **source.table("tailora.backbones.load", "NAMES"),
        **source.table("tailora.backbones.other_sources", "KINDS"),
    }
    return shipped | _texts("backbones")


def describe(name: str) -> dict[str, dict[str, Any]]:
    """Options with defaults, reference and test of one name, or a whole family.

    A name may be in several families: `class-balanced` is a loss, a sampler and a probe.

    Raises:
        ConfigError: No entry has that name.
    """
    families = listing()
    wanted = name.lower()
    if wanted in families:
        return {wanted: families[wanted]}
    found = {
        family: {"family": family, **_details(family, wanted, entries[wanted])}
        for family, entries in families.items()
        if wanted in entries
    }
    if not found:
        known = {*families, *(one for entries in families.values() for one in entries)}
        near = get_close_matches(wanted, sorted(known), n=1, cutoff=_NEAR)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"nothing is called {name!r}{hint} (`tailora methods` lists all)")
    first, *others = found
    return {wanted: found[first], **{f"{wanted} ({other})": found[other] for other in others}}


def guard(family: str, name: str) -> str:
    """Path of the test file that fails when the formula of a method is broken.

    By convention that of its module; exceptions are listed here.
    """
    module = registry.entries(family)[name].module.rpartition(".")[2]
    return f"tests/{family}/{_TESTED_TOGETHER.get((family, module), f'test_{module}')}.py"


_TESTED_TOGETHER = {
    **{("samplers", name): "test_shares" for name in
       ("class_balanced", "effective_number", "progressive", "square_root")},
    **{("samplers", name): "test_over_and_under_sampling" for name in
       ("oversampling", "undersampling")},
    **{("augment", name): "test_mixing" for name in
       ("adpmix_style", "cmo", "cutmix", "enmix_style", "mixup", "remix")},
    ("optim", "adamw"): "test_contract",
}  # fmt: skip


def one_line(entry: registry.Entry) -> str:
    """What a method does, and authors with venue and year in brackets."""
    paper = short_reference(entry.reference)
    return f"{entry.summary.removesuffix('.')} ({paper})" if paper else entry.summary


def short_reference(reference: str) -> str:
    """Authors, venue and year of a reference: its first part and the last that ends in a year.

    Example:
        >>> short_reference("Ren et al., Balanced Meta-Softmax, NeurIPS 2020, theorem 1.")
        'Ren et al., NeurIPS 2020'
    """
    authors, _, rest = reference.rstrip(".").partition(", ")
    dated = re.findall(r"[^,:]*\b(?:19|20)\d\d\b", rest)
    return f"{authors}, {dated[-1].strip()}" if dated else reference.rstrip(".")


def _details(family: str, name: str, entry: Any) -> dict[str, Any]:
    if family == "recipe":
        return {"default": repr(entry), "what": _key_text(name)}
    if family == "methods":
        advice = registry.method_facts()[name].get("advice")
        return {
            "what": entry,
            **({"use it for": advice} if advice else {}),
            **_recipe_options(name),
        }
    if family in (*registry.FAMILIES, "metrics"):
        method = registry.entries(family)[name]
        options = {f"option {key}": default(value) for key, value in method.options.items()}
        reference = {"reference": method.reference} if method.reference else {}
        test = {} if method.part else {"test": guard(family, name)}
        return {"what": entry, **options, **reference, **test}
    if family == "probes":
        is_loss = name in registry.head_losses()
        added = registry.entries("heads").get(name)
        options = "those of the loss, as NAME:option=value" if is_loss else "none"
        if added is not None and added.part is not None:
            options = ", ".join(f"{k}={v!r}" for k, v in added.part().options.items()) or "none"
        return {"what": entry, "options": options}
    if family in _HOW:
        return {"what": entry, "options": _HOW[family]}
    return {"what": entry, "options": "those of PEFT's configuration, set as adapter.options"}


def default(value: object) -> str:
    """Format the default of an option."""
    return "needed" if value is inspect.Parameter.empty else repr(value)


def _recipe_options(method: str) -> dict[str, str]:
    """Recipe keys of a method and of its head, with default and meaning."""
    uses = registry.method_facts()[method]["uses"]
    own = [section for section in uses if section not in _OF_ALL]
    sections = (*own, "probe")
    return {
        key: f"{value!r}. {_key_text(key)}"
        for key, value in recipes.recipe_keys().items()
        if key.partition(".")[0] in sections
    }


def _key_text(key: str) -> str:
    """Return what a recipe key means, from the docstring of its section."""
    section, _, option = key.rpartition(".")
    owner = type(getattr(recipes.Recipe(), section)) if section else recipes.Recipe
    return argument_texts(owner).get(option, "")


def argument_texts(owner: object) -> dict[str, str]:
    """Read the `Args` of a docstring: what each argument means, on one line."""
    text = inspect.getdoc(owner) or ""
    _, _, arguments = text.partition("Args:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}
