"""What there is, by name: the command line and recipes find methods here, Python imports them.

A family's `__all__` is its registry, and a signature its configuration: positional parameters are
facts that the data and the run decide, keyword-only ones are the user's options.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from tailora.errors import ConfigError, unknown_name

FAMILIES: Final = {
    "losses": "loss",
    "samplers": "sampler",
    "heads": "head",
    "experts": "expert",
    "contrastive": "contrastive",
    "augment": "mix",
    "optim": "optimizer",
    "detection": "detection method",
}
"""Shelves of parts that a recipe names, and what one of each is called."""
_PACKAGES: Final = FAMILIES | {"methods": "method"}
_KINDS: Final = ("Loss", "Sampler", "Head")

Method = Callable[..., Any]


def names(family: str) -> list[str]:
    """List the methods of a family, e.g. `"losses"`, in alphabetical order.

    Example:
        >>> "balanced-softmax" in names("losses")
        True
    """
    return sorted(_registry(family))


def find(family: str, name: str) -> Method:
    """Get the class or function called `name`.

    Raises:
        ConfigError: No such family or name; the message has the nearest one.
    """
    registry = _registry(family)
    if name not in registry:
        raise unknown_name(_PACKAGES[family], name, registry)
    return registry[name]


def method_name(method: Method) -> str:
    """Spell a method as the command line does: kebab case without Loss, Sampler or Head.

    Example:
        >>> from tailora.losses import LDAMLoss
        >>> method_name(LDAMLoss)
        'ldam'
    """
    own = vars(method).get("name")
    if isinstance(own, str):
        return own
    stem = re.sub(f"({'|'.join(_KINDS)})$", "", method.__name__)
    # a hyphen before each capitalised word, but not inside LDAM or ResLT, nor CutMix, SupCon, PaCo
    return re.sub(r"(?<!^)(?!Mix|Con$|Co$)(?=[A-Z][a-z])", "-", stem).lower().replace("_", "-")


def needs(method: Method) -> tuple[str, ...]:
    """List the facts a method takes, i.e. its positional parameters."""
    return tuple(p.name for p in _parameters(method) if p.kind is p.POSITIONAL_OR_KEYWORD)


def options(method: Method) -> dict[str, Any]:
    """Map each option to its default, i.e. the keyword-only parameters."""
    return {p.name: p.default for p in _parameters(method) if p.kind is p.KEYWORD_ONLY}


def build(method: Method, facts: Mapping[str, object], chosen: Mapping[str, object]) -> Any:
    """Call a method with the facts it needs and the options the user chose.

    Args:
        method: From `find`.
        facts: All that is known, e.g. `counts`, `labels`, `num_classes`, `rank`; each method
            takes its own.
        chosen: Options by name; the others keep their defaults.

    Raises:
        ConfigError: An option the method does not have or of a type it cannot use, or a fact it
            lacks.
    """
    known = options(method)
    for option in chosen:
        if option not in known:
            raise ConfigError(
                f"{method_name(method)} takes no option {option!r}; "
                f"it takes {', '.join(known) or 'none'}"
            )
    positional = [p for p in _parameters(method) if p.name not in known]
    lacking = [p.name for p in positional if p.name not in facts and p.default is p.empty]
    if lacking:
        raise ConfigError(f"{method_name(method)} needs {', '.join(lacking)}, which is not known")
    given = {p.name: facts[p.name] for p in positional if p.name in facts}
    try:
        return method(**given, **chosen)
    except TypeError as error:
        if not chosen:
            raise
        raise ConfigError(f"{method_name(method)} cannot use {dict(chosen)}: {error}") from error


def summary(method: Method) -> str:
    """Say in one line what a method does: the first line of its docstring."""
    return (inspect.getdoc(method) or "").partition("\n")[0]


def reference(method: Method) -> str:
    """Name the paper and equation, on one line: the docstring's last section."""
    return " ".join((inspect.getdoc(method) or "").partition("\nReference:\n")[2].split())


@cache
def method_facts() -> dict[str, dict[str, Any]]:
    """What the classes of `tailora.methods` say of themselves, by name, in alphabetical order.

    Read from their source, so that a name, a title or a flag is known without importing torch.
    """
    package = Path(__file__).parent / "methods"
    found: dict[str, dict[str, Any]] = {}
    for statement in ast.parse((package / "__init__.py").read_text("utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            module = statement.module.removeprefix("tailora.methods.").replace(".", "/")
            wanted = {alias.name for alias in statement.names}
            for node in ast.parse((package / f"{module}.py").read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name in wanted:
                    facts = _literals(node)
                    found[facts["name"]] = facts
    return dict(sorted(found.items()))


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    """Attributes of a class that are written as constants, or as a name of its module for one."""
    found: dict[str, Any] = {}
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            with suppress(ValueError):
                found[item.targets[0].id] = ast.literal_eval(item.value)
    return found


def fitted_methods() -> tuple[str, ...]:
    """Names of the methods that `fit` offers."""
    return tuple(name for name, of in method_facts().items() if not of.get("only_compared"))


def compared_methods() -> tuple[str, ...]:
    """Names of the methods that `compare` offers: those of `fit` first."""
    return (*fitted_methods(), *(name for name in method_facts() if name not in fitted_methods()))


def _registry(family: str) -> dict[str, Method]:
    if family not in _PACKAGES:
        raise unknown_name("family", family, _PACKAGES)
    module = importlib.import_module(f"tailora.{family}")
    methods = [getattr(module, name) for name in module.__all__]
    return {method_name(method): method for method in methods}


def _parameters(method: Method) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())
