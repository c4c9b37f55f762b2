"""Read a CSV or Parquet table of images: path, label and optionally split and group."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, final

from tailora.class_names import canonical_name
from tailora.data.dataset import Dataset, assemble
from tailora.data.sources import FileImages
from tailora.data.splits import SPELLINGS, split_name
from tailora.errors import DataError, unknown_name
from tailora.numbers import counted

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def inert(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would execute.

    Example:
        >>> inert("=1+1"), inert("'=1+1"), inert("field")
        ("'=1+1", "''=1+1", 'field')
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def plain(text: str) -> str:
    """Remove the apostrophe added by `inert`.

    Example:
        >>> plain("'=1+1"), plain("'tis")
        ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and inert(text) != text else text


TABLE_EXTENSIONS: Final = (".csv", ".parquet")

_REQUIRED: Final = ("path", "label")
_OPTIONAL: Final = ("split", "group")


def open_table(path: Path, *, seed: int = 0, to_learn: bool = True) -> Dataset:
    """Open the images that a table lists.

    Args:
        path: CSV (UTF-8, commas) or Parquet with the columns `path` (absolute, or relative to the
            table's folder) and `label`, and optionally `split` and `group`. Every CSV value is
            text, so a class "007" keeps its zeros; Parquet may also contain integers. Errors count
            rows like a spreadsheet: in a CSV the header is row 1.
        seed: Seeds missing splits.
        to_learn: False for data only used for evaluation; see `Dataset`.

    Raises:
        DataError: A column, a value or a file is missing, a value has an unsuitable type, a split
            has an unknown name, or an error of `check`.
    """
    table, notes = read_table(path).once_each()
    return assemble(
        path.stem,
        FileImages(table.files("path"), table.columns["path"]),
        table.columns["label"],
        splits=table.splits(),
        groups=table.columns.get("group"),
        seed=seed,
        notes=notes,
        to_learn=to_learn,
    )


def read_table(
    path: Path, required: Sequence[str] = _REQUIRED, *, more: Sequence[str] = ()
) -> "Table":
    """Read the columns `required`, and `split`, `group` and `more` if there are such, all filled.

    Raises:
        DataError: See `open_table`.
    """
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    table = read(path, required, (*_OPTIONAL, *more))
    table.require_filled()
    return table


def table_columns(path: Path) -> list[str]:
    """Names of the columns of a CSV or Parquet table, as they are written.

    Raises:
        DataError: It cannot be read.
    """
    if path.suffix.lower() == ".csv":
        with _reading_csv(path) as reader:
            return list(reader.fieldnames or ())
    with _reading_parquet(path) as file:
        return list(file.schema_arrow.names)


@final
@dataclass(frozen=True)
class Table:
    """The columns in use, as text, and the row number of each value in the file."""

    path: Path
    rows: list[int]
    columns: dict[str, list[str]]

    def require_filled(self) -> None:
        """Refuse a table without rows, and empty cells."""
        if not self.rows:
            raise DataError(f"{str(self.path)!r} has no rows below its header; list the images")
        for name, values in self.columns.items():
            # pandas writes "nan" for missing values; no class has that name
            empty = [i for i, text in enumerate(values) if text.strip().lower() in ("", "nan")]
            if empty:
                raise self.error(empty, f"has no {name}", "fill it in or remove the row")

    def once_each(self) -> "tuple[Table, tuple[str, ...]]":
        """Drop rows that list an image again, so that no copy of it is in the test split."""
        facts = list(zip(*self.columns.values(), strict=True))
        first: dict[tuple[str, ...], int] = {}
        for i, fact in enumerate(facts):
            first.setdefault(fact, i)
        kept = list(first.values())
        several: dict[str, set[str]] = defaultdict(set)
        for name, label in zip(self.columns["path"], self.columns["label"], strict=True):
            several[name].add(canonical_name(label))
        unclear = {name: labels for name, labels in several.items() if len(labels) > 1}
        notes = []
        if len(kept) < len(facts):
            notes.append(f"listed before and left out: {counted(len(facts) - len(kept), 'row')}")
        for name, labels in list(unclear.items())[:1]:
            told = ", ".join(sorted(labels))
            notes.append(
                f"listed with several labels: {counted(len(unclear), 'image')}, e.g. {name!r} as "
                f"{told}"
            )
        columns = {name: [values[i] for i in kept] for name, values in self.columns.items()}
        return Table(self.path, [self.rows[i] for i in kept], columns), tuple(notes)

    def files(self, column: str) -> list[Path]:
        """Files that a column lists, relative to the table's folder.

        Raises:
            DataError: One is missing.
        """
        found = [self.path.parent / text for text in self.columns[column]]
        missing = [i for i, file in enumerate(found) if not file.is_file()]
        if missing:
            listed = self.columns[column][missing[0]]
            folder = str(self.path.parent.resolve())
            raise self.error(
                missing,
                f"lists {listed!r}, which is not a file",
                f"paths are relative to {folder!r}",
            )
        return found

    def splits(self) -> list[str] | None:
        """Split of each row; None without such a column."""
        if "split" not in self.columns:
            return None
        names = [split_name(text) for text in self.columns["split"]]
        unknown = [i for i, name in enumerate(names) if name is None]
        if unknown:
            given = self.columns["split"][unknown[0]]
            raise self.error(unknown, "is wrong", str(unknown_name("split", given, SPELLINGS)))
        return [name for name in names if name]

    def error(self, rows: Sequence[int], what: str, advice: str) -> DataError:
        """Error about some rows, by their numbers in the file."""
        more = f" ({len(rows) - 1} more like it)" if len(rows) > 1 else ""
        return DataError(f"row {self.rows[rows[0]]} of {str(self.path)!r} {what}{more}; {advice}")


def _read_csv(path: Path, required: Sequence[str], optional: Sequence[str]) -> Table:
    with _reading_csv(path) as reader:
        used = _used_columns(path, reader.fieldnames or (), required, optional)
        rows: list[int] = []
        columns: dict[str, list[str]] = {name: [] for name in used}
        for record in reader:
            rows.append(reader.line_num)
            _require_all_fields(path, record, row=rows[-1])
            for name in used:
                columns[name].append(plain(record[name]))
    return Table(path, rows, columns)


@contextmanager
def _reading_csv(path: Path) -> Iterator["csv.DictReader[str]"]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield csv.DictReader(file, strict=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {str(path)!r} as UTF-8 CSV: {error}") from error


def _require_all_fields(path: Path, record: dict[Any, Any], *, row: int) -> None:
    if None in record or None in record.values():  # how csv marks too many and too few fields
        count = "more" if None in record else "fewer"
        raise DataError(
            f"row {row} of {str(path)!r} has {count} fields than the header; put values that "
            "contain a comma in double quotes"
        )


def _read_parquet(path: Path, required: Sequence[str], optional: Sequence[str]) -> Table:
    with _reading_parquet(path) as file:
        used = _used_columns(path, file.schema_arrow.names, required, optional)
        data = file.read(columns=used)
    columns = {name: _texts(path, name, data.column(name)) for name in used}
    return Table(path, list(range(1, data.num_rows + 1)), columns)


@contextmanager
def _reading_parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa  # not needed by other sources, and slow to import
    from pyarrow import parquet

    try:
        yield parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {str(path)!r} as Parquet: {reason}") from error


def _texts(path: Path, name: str, column: Any) -> list[str]:
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    values: list[Any] = column.to_pylist()
    is_text = types.is_string(kind) or types.is_large_string(kind)
    if not (is_text or types.is_integer(kind) or types.is_null(kind)):
        gaps = [i for i, value in enumerate(values) if value is None or value != value]
        row = gaps[0] if gaps else 0
        shown = f" (row {row + 1}: {values[row]!r})" if values else ""
        raise DataError(
            f"column {name!r} of {str(path)!r} has {kind} values{shown}; store it as text or, "
            "without gaps, as integers"
        )
    return ["" if value is None else str(value) for value in values]


def _used_columns(
    path: Path, present: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> list[str]:
    for name in required:
        if name not in present:
            near = get_close_matches(name, present, n=1)
            hint = f"; rename {near[0]!r}?" if near else ""
            raise DataError(f"{str(path)!r} has no column {name!r}, only {list(present)}{hint}")
    used = [name for name in (*required, *optional) if name in present]
    twice = [name for name in used if list(present).count(name) > 1]
    if twice:
        raise DataError(f"{str(path)!r} has more than one column {twice[0]!r}; rename the others")
    return used
