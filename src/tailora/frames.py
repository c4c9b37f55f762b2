"""Records as tables of pandas, for those who have it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any, Generic, TypeVar, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from tailora.errors import ConfigError

_T_co = TypeVar("_T_co", covariant=True)


class Rows(tuple[_T_co, ...], Generic[_T_co]):
    """A tuple of records, each a dataclass, that is also a table."""

    __slots__ = ()

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame`, a row per record.

        Fields of fields are columns `OUTER.INNER`; fields that are lists are left out.

        Raises:
            ConfigError: pandas is not installed.
        """
        return frame(asdict(one) for one in self)  # pyright: ignore[reportArgumentType]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let files hold it as a list."""
        (kind,) = get_args(source)
        return core_schema.no_info_after_validator_function(cls, handler(tuple[kind, ...]))


def frame(records: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> Any:
    """Return a `pandas.DataFrame` of records, see `Rows.to_frame`.

    Args:
        records: One a row.
        columns: Of a table without rows.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")  # which only those have who want a table
    except ImportError as error:
        raise ConfigError("to_frame needs pandas, which is not here: pip install pandas") from error
    rows = [dict(_flat(record)) for record in records]
    outer = {name.partition(".")[0] for row in rows for name in row if "." in name}
    rows = [{k: v for k, v in row.items() if k not in outer} for row in rows]  # None in some
    return pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=list(columns))


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list | tuple):
            yield f"{prefix}{name}", value
