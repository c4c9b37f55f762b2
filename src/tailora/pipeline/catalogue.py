"""What `tailora methods` lists."""

import inspect
import re
from typing import Any

from tailora import catalogue
from tailora.adapters import tuner_names
from tailora.errors import unknown_name
from tailora.heads.probes import probe_names, probe_summary
from tailora.runs import recipe as recipes

METHODS = {
    "deblora": "LoRA, then features de-biased towards shared clusters and learnt by a new adapter "
    "(Tian et al., NeurIPS 2024)",
    "lora": "an adapter trained on labels, then a linear probe (Hu et al., ICLR 2022)",
    "lora+reslt": "LoRA trained under the three-branch head and loss of ResLT, then a linear probe "
    "(Cui et al., TPAMI 2022)",
    "fine-tune": "all weights trained on labels, then a linear probe",
    "zero-shot": "the pretrained encoder as it is, and a linear probe",
}
COMPARED_ONLY = {
    "clora": "one LoRA per category, each answering for its own; `tailora compare` only",
    "clora+deblora": "cLoRA whose adapters are de-biased one by one; `tailora compare` only",
    "clora-oracle": "cLoRA that is told the true category: leaks the label, shown as such; "
    "`tailora compare` only",
    "prompt-oracle": "Stable Diffusion whose prompt names the true class: leaks the label, shown "
    "as such; `tailora compare` only",
}


def listing() -> dict[str, dict[str, Any]]:
    """Every family with one line per name."""
    families: dict[str, dict[str, Any]] = {"methods": METHODS | COMPARED_ONLY}
    for family in catalogue.FAMILIES:
        families[family] = {
            name: catalogue.summary(catalogue.find(family, name))
            for name in catalogue.names(family)
        }
    families["probes"] = {name: probe_summary(name) for name in probe_names()}
    families["tuners"] = {name: f"PEFT's {name}" for name in tuner_names()}
    families["recipe"] = recipes.recipe_keys()
    return families


def describe(name: str) -> dict[str, dict[str, Any]]:
    """Options with defaults and the reference of one name, or a whole family.

    Raises:
        ConfigError: Nothing has that name.
    """
    families = listing()
    wanted = name.lower()
    if wanted in families:
        return {wanted: families[wanted]}
    for family, entries in families.items():
        if wanted in entries:
            return {wanted: _details(family, wanted, entries[wanted])}
    raise unknown_name("method", name, {n for entries in families.values() for n in entries})


_SECTIONS = {
    "deblora": ("deblora", "adapter", "train", "probe"),
    "lora": ("adapter", "train", "probe"),
    "lora+reslt": ("adapter", "train", "probe"),
    "fine-tune": ("train", "probe"),
    "zero-shot": ("probe",),
    "clora": ("adapter", "train"),
    "clora+deblora": ("deblora", "adapter", "train"),
    "clora-oracle": ("adapter", "train"),
}


def _details(family: str, name: str, entry: Any) -> dict[str, Any]:
    if family == "recipe":
        return {"default": repr(entry), "what": _key_text(name)}
    if family == "methods":
        return {"what": entry, **_recipe_options(name)}
    if family in catalogue.FAMILIES:
        method = catalogue.find(family, name)
        options = {f"option {key}": repr(value) for key, value in catalogue.options(method).items()}
        return {"what": entry, **options, "reference": catalogue.reference(method)}
    if family == "probes":
        return {"what": entry, "options": "those of the loss, as NAME:option=value"}
    return {"what": entry, "options": "those of PEFT's configuration, given as adapter.options"}


def _recipe_options(method: str) -> dict[str, str]:
    """Recipe keys that act on a method, with default and meaning."""
    return {
        key: f"{value!r}. {_key_text(key)}"
        for key, value in recipes.recipe_keys().items()
        if key.partition(".")[0] in _SECTIONS[method]
    }


def _key_text(key: str) -> str:
    """Say what a recipe key means: the docstring of its section."""
    section, _, option = key.rpartition(".")
    owner = type(getattr(recipes.Recipe(), section)) if section else recipes.Recipe
    return _argument_texts(owner).get(option, "")


def _argument_texts(owner: type) -> dict[str, str]:
    """Read the `Args` of a docstring."""
    text = inspect.getdoc(owner) or ""
    _, _, arguments = text.partition("Args:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}
