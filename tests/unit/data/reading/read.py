"""Files written and read in one step."""

from pathlib import Path

from localtune.data.reading import Source, find
from localtune.data.rows import BadRows, Row
from localtune.errors import LocaltuneError, Problem


def read(path: Path, content: bytes, separator: str | None = None) -> tuple[list[Row], list[Problem], Source]:
    """Rows, first problems and source of the file `path`, which is written with `content`."""
    path.write_bytes(content)
    source = find(path.name, path.parent, separator)
    bad = BadRows("skip")
    return list(source.rows(bad)), bad.first, source


def values(path: Path, content: bytes, separator: str | None = None) -> list[object]:
    """Values of the rows; no row may be bad."""
    rows, problems, _ = read(path, content, separator)
    assert problems == []
    return [row.value for row in rows]


def first_problem(path: Path, content: bytes, separator: str | None = None) -> Problem:
    """What is said first of a file that is bad as a whole, or in a row."""
    try:
        _, problems, _ = read(path, content, separator)
    except LocaltuneError as error:
        return error.problems[0]
    return problems[0]
