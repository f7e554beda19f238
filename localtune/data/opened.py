"""Data that a command line names, opened: its source, the shape of its rows, and each row beside its normal form."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from localtune.data.conversations import Example
from localtune.data.reading import Source, find
from localtune.data.rows import BadRows, Row
from localtune.data.shapes import Format, examples, normal_form
from localtune.errors import InputError, Problem, safe
from localtune.settings import DataSettings


@dataclass(frozen=True)
class Opened:
    """Rows that can be read as often as wanted."""

    source: Source
    form: Format
    settings: DataSettings

    @property
    def name(self) -> str:
        """The data as it was named."""
        return self.source.name

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files, in the order they are read."""
        return self.source.files

    def said(self) -> tuple[str, ...]:
        """How they are read, where there is more to say than plain UTF-8, and which columns are of no use."""
        unused = ", ".join(safe(name, 40) for name in self.form.unused)
        return (*self.source.said(), *([f"not used: {unused}"] if unused else []))

    def rows(self, tell: Callable[[Problem], None]) -> Iterator[tuple[Row, Example | Problem]]:
        """Every row that can be read, with its normal form or why it has none; `tell` gets those that cannot be read.

        A row of another shape than the first is a problem of its own here.
        """
        for row in self.source.rows(_Every(tell)):
            try:
                yield row, normal_form(row, self.form, self.settings.system)
            except InputError as error:
                yield row, error.problems[0]

    def is_alike(self) -> bool:
        """Whether all rows that can be used could stand in one file as they are.

        Files named together may hold conversations in different shapes; in one file that is an error. Reads the rows
        of all files but the first row's, up to the first that differs.
        """
        first = self.form.first.place.number
        if len(self.files) < 2:
            return True
        others = (row for row in self.source.rows(_Every(lambda problem: None)) if row.place.number != first)
        return all(map(self._is_like_first, others))

    def _is_like_first(self, row: Row) -> bool:
        """Whether `row` could stand in the file of the first row, or is of no use anywhere."""
        system, moved = self.settings.system, replace(row.place, number=self.form.first.place.number)
        try:
            normal_form(replace(row, place=moved), self.form, system)
        except InputError:
            try:
                return isinstance(normal_form(row, self.form, system), Problem)
            except InputError:
                return True
        return True


def open_data(names: str | Sequence[str], settings: DataSettings, base: Path) -> Opened:
    """What `names` stand for. Raises `InputError` for data that is not there or has no row of a known shape."""
    return _opened(find(names, base, separator=settings.separator), settings)


def held_out_parts(train: Opened, base: Path) -> dict[str, Opened]:
    """Validation and test rows: those the settings name, else those that lie beside the training rows.

    Raises `InputError`.
    """
    settings, beside = train.settings, train.source
    found = {}
    for part, names, lying in (("validation", settings.valid, beside.valid), ("test", settings.test, beside.test)):
        if names not in (None, "auto", "none"):
            found[part] = open_data(names, settings, base)
        elif names != "none" and lying is not None:
            found[part] = _opened(lying, settings)
    return found


def _opened(source: Source, settings: DataSettings) -> Opened:
    bad = BadRows("skip")
    form, _ = examples(source.rows(bad), settings, bad)
    return Opened(source, form, settings)


class _Every(BadRows):
    """Tells of every unusable row."""

    def __init__(self, tell: Callable[[Problem], None]) -> None:
        super().__init__("skip")
        self._tell = tell

    def add(self, problem: Problem) -> None:
        self.count += 1
        self._tell(problem)
