"""Parquet files, some rows at a time, as plain values.

Lists, structs and maps become lists and objects; dates, times and decimals become text; a float that is not a number
(as pandas writes what is missing) becomes null. Columns of bytes are text where their first values are UTF-8, and are
passed over where not, which is said. A row's place is its number, counted from 1. Memory: one row group's pages.
"""

import datetime
import decimal
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from localtune.data.reading.file import File, check_unchanged, translated
from localtune.data.rows import BadRows, Place, Row
from localtune.errors import InputError, Problem, safe

_BATCH = 256
"""Rows at a time."""
_PROBED = 64
"""Rows that decide whether bytes are text."""


def rows(file: File, number: int, bad: BadRows) -> Iterator[Row]:
    """Rows of `file`, the one with this `number`; unusable ones go to `bad`."""
    check_unchanged(file)
    at = 0
    with _table(file) as table:
        columns = [name for name in table.schema_arrow.names if name not in file.passed_over]
        for batch in table.iter_batches(batch_size=_BATCH, columns=columns):
            for value in _values(batch):
                at += 1
                place = Place(file.shown, at, number)
                found = row_of(value, place)
                if isinstance(found, Problem):
                    bad.add(found)
                else:
                    yield Row(place, found)
    check_unchanged(file)


def checked(file: File) -> File:
    """`file` with the columns that are passed over; `InputError` for one that is broken or holds no text."""
    with _table(file) as table:
        schema = table.schema_arrow
        kinds = ", ".join(f"{safe(field.name, 60)} {field.type}" for field in schema)
        _check_names(schema.names, file)
        passed = tuple(field.name for field in schema if _holds_bytes(field.type) and not _is_text(table, field.name))
        if not table.metadata.num_rows:
            raise InputError(Problem("data.empty", "holds no rows", file.shown, kinds, "name a file with rows"))
        if not any(_holds_text(field.type) for field in schema if field.name not in passed):
            what = "no column holds text"
            fix = "name a file with a column of texts, such as prompt or text"
            raise InputError(Problem("data.parquet", what, file.shown, f"columns: {safe(kinds, 400)}", fix))
    if not passed:
        return file
    names = ", ".join(safe(name, 80) for name in passed)
    return replace(file, passed_over=passed, said=(*file.said, f"{file.shown}: columns passed over, not text: {names}"))


def row_of(value: dict[str, Any] | str, place: Place) -> dict[str, Any] | Problem:
    """A row with plain values, or what is wrong with it; `value` may be a sentence that says so already."""
    fix = "mend or remove this row"
    if isinstance(value, str):
        return Problem("data.parquet", value, str(place), fix=fix)
    found, name = {}, ""
    try:
        for name, cell in value.items():
            found[name] = _plain(cell)
    except UnicodeDecodeError:
        return Problem("data.parquet", f"the bytes in {safe(name, 80)} are not UTF-8", str(place), fix=fix)
    except ValueError as error:
        return Problem("data.parquet", f"{safe(name, 80)}: {error}", str(place), fix=fix)
    return found


@contextmanager
def _table(file: File) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with translated(file.shown), file.path.open("rb") as stream:
            yield pyarrow.parquet.ParquetFile(stream)
    except (pyarrow.ArrowException, InputError) as error:
        if isinstance(error, InputError) and error.problems[0].code != "data.unreadable":
            raise
        raise _broken(file, error.problems[0].what if isinstance(error, InputError) else str(error)) from None


def _broken(file: File, reason: str) -> InputError:
    first = reason.removeprefix("cannot be read: ").partition("\n")[0]
    what = f"is no sound Parquet file: {safe(first, 300)}"
    return InputError(Problem("data.parquet", what, file.shown, fix="download or write it again"))


def _check_names(names: list[str], file: File) -> None:
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        what = f"two columns are called {safe(twice, 80)!r}"
        raise InputError(Problem("data.header", what, file.shown, fix="give each column a name of its own"))


def _inner(kind: Any) -> list[Any]:
    """Types inside a list, a struct, a map, a dictionary."""
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        return [kind.value_type]
    return [kind.field(i).type for i in range(kind.num_fields)]


def _holds_text(kind: Any) -> bool:
    import pyarrow.types as is_

    text = is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind) or _is_bytes(kind)
    return text or any(_holds_text(inner) for inner in _inner(kind))


def _holds_bytes(kind: Any) -> bool:
    return _is_bytes(kind) or any(_holds_bytes(inner) for inner in _inner(kind))


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as is_

    return bool(
        is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_binary_view(kind) or is_.is_fixed_size_binary(kind)
    )


def _is_text(table: Any, name: str) -> bool:
    """Whether the bytes in the first rows of a column are UTF-8."""
    batch = next(table.iter_batches(batch_size=_PROBED, columns=[name]), None)
    try:
        for value in batch.column(0).to_pylist() if batch is not None else []:
            _plain(value)
    except (UnicodeDecodeError, ValueError):
        return False
    return True


def _values(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; a sentence for one that has no value in Python."""
    try:
        yield from batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError, OSError):
        for at in range(batch.num_rows):
            try:
                yield from batch.slice(at, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield f"a text is not UTF-8: {error.reason}"
            except (ValueError, OverflowError, OSError) as error:
                yield f"a value cannot be read: {safe(str(error), 200)}"


def _plain(value: Any) -> Any:
    """`value` as JSON knows it. Raises `ValueError`."""
    match value:
        case str():
            if "\0" in value:
                raise ValueError("a string holds the NUL character")
            return value
        case None | bool() | int():
            return value
        case float():
            if math.isinf(value):
                raise ValueError("infinity is no JSON number")
            return None if math.isnan(value) else value
        case bytes():
            return _plain(value.decode("utf-8"))
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return {str(key): _plain(inner) for key, inner in value}
        case list():
            return [_plain(inner) for inner in value]
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case decimal.Decimal() | datetime.timedelta():
            return str(value)
    raise ValueError(f"a value of type {type(value).__name__} is not read")
