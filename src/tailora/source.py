"""Read names, docstrings, signatures and constants from source, without importing.

torch, transformers and PEFT take seconds to import; this makes lazy exports and listings possible.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from inspect import Parameter
from pathlib import Path
from types import ModuleType
from typing import Any

_Node = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Definition:
    """A class or a function, and its module."""

    module: str
    node: _Node

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        return isinstance(self.node, ast.ClassDef)

    @property
    def document(self) -> str:
        """Its docstring, dedented."""
        return ast.get_docstring(self.node) or ""

    def attributes(self, *, own: bool = False) -> dict[str, Any]:
        """Constant attributes of a class and, unless only its own, of its bases."""
        found: dict[str, Any] = {}
        lineage = [self] if own else list(_lineage(self))
        for one in reversed(lineage if self.is_class else []):
            for name, node in _assignments(one.node.body):
                found.pop(name, None)
                try:
                    found[name] = _value(one.module, node)
                except ValueError:
                    continue
        return found

    def options(self) -> dict[str, Any]:
        """Keyword-only parameters with their defaults, `Parameter.empty` where one is needed.

        Raises:
            ValueError: A default is computed.
        """
        called = next((one for one in map(_called, _lineage(self)) if one is not None), None)
        if called is None:
            return {}
        given = called.node.args
        return {
            argument.arg: Parameter.empty if default is None else _value(called.module, default)
            for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        }


@dataclass(frozen=True)
class _Called:
    module: str
    node: ast.FunctionDef


@cache
def exports(package: str) -> dict[str, str]:
    """Return the module of each name that a package of tailora imports from its own modules."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(_parsed(package))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tailora.")
        for alias in node.names
    }


@cache
def definition(module: str, name: str) -> Definition | None:
    """Find a class or function by its name in a module; None if it is not tailora's own."""
    for node in _parsed(module).body:
        if isinstance(node, _Node) and node.name == name:
            return Definition(module, node)
    home = exports(module).get(name)
    return None if home is None else definition(home, name)


@cache
def constant(module: str, name: str) -> Any:
    """Return a constant of a module.

    Raises:
        ValueError: There is none of that name, or it is computed.
    """
    for target, node in _assignments(_parsed(module).body):
        if target == name:
            return _value(module, node)
    if name in exports(module):
        return constant(exports(module)[name], name)
    raise ValueError(f"{module} has no constant {name}")


def table(module: str, name: str) -> dict[str, Any]:
    """Return the keys of a dictionary of a module, each with its value or the first part of it.

    A value that is no constant is None.

    Raises:
        ValueError: There is no such dictionary, or a key is computed.
    """
    for target, node in _assignments(_parsed(module).body):
        if target == name and isinstance(node, ast.Dict):
            keys = _values(module, [key for key in node.keys if key is not None])
            return dict(zip(keys, (_first(module, value) for value in node.values), strict=True))
    raise ValueError(f"{module} has no dictionary {name}")


def _first(module: str, node: ast.expr) -> Any:
    try:
        return _value(module, node.elts[0] if isinstance(node, ast.Tuple) else node)
    except ValueError:
        return None


def import_when_asked(package: str) -> None:
    """Let a package import each of its exports on first access.

    Args:
        package: Its `__name__`, in its `__init__`; it imports its names `if TYPE_CHECKING`.
    """
    sys.modules[package].__class__ = _Waiting


class _Waiting(ModuleType):
    def __getattr__(self, name: str) -> Any:
        home = exports(self.__name__).get(name)
        if home is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # an import puts a module on its package, in the place of what is called like it
        if isinstance(value, ModuleType) and exports(self.__name__).get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *exports(self.__name__)})


@cache
def _parsed(module: str) -> ast.Module:
    package, *below = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no package {package!r}")
    path = Path(spec.origin).parent.joinpath(*below)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text("utf-8"))


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for item in body:
        match item:
            case ast.Assign(targets=[ast.Name(id=name)], value=node):
                yield name, node
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=nodes)):
                yield from (
                    (one.id, node)
                    for one, node in zip(names, nodes, strict=True)
                    if isinstance(one, ast.Name)
                )
            case ast.AnnAssign(target=ast.Name(id=name), value=node) if node is not None:
                yield name, node
            case _:
                continue


def _lineage(of: Definition) -> Iterator[Definition]:
    """Return a class and its bases; only tailora's own."""
    yield of
    for base in of.node.bases if isinstance(of.node, ast.ClassDef) else []:
        found = definition(of.module, base.id) if isinstance(base, ast.Name) else None
        if found is not None:
            yield from _lineage(found)


def _called(of: Definition) -> _Called | None:
    """Return the function that runs when a class or function is called."""
    if isinstance(of.node, ast.FunctionDef):
        return _Called(of.module, of.node)
    for item in of.node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _Called(of.module, item)
    return None


def _value(module: str, node: ast.expr) -> Any:
    match node:
        case ast.Name(id=name):
            return constant(module, name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            found = definition(module, owner)
            known = {} if found is None else found.attributes()
            if name not in known:
                raise ValueError(f"{owner}.{name} is not a constant")
            return known[name]
        case ast.Tuple(elts=elements):
            return tuple(_values(module, elements))
        case _:
            return ast.literal_eval(node)


def _values(module: str, nodes: list[ast.expr]) -> Iterator[Any]:
    for node in nodes:
        if isinstance(node, ast.Starred):
            yield from _value(module, node.value)
        else:
            yield _value(module, node)
