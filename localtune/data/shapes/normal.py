"""Rows in normal form.

Every row is an `Example` or a `Problem`. The first row decides the shape of its file; a later one of another shape
ends the reading with an error that names both. Files named together may differ as long as all of them hold
conversations (messages, prompt-completion, alpaca, sharegpt).
"""

import itertools
from collections.abc import Iterator

from localtune.data.conversations import Example
from localtune.data.rows import BadRows, Row
from localtune.data.shapes.detection import Format, columns_problem, detect, held, match
from localtune.data.shapes.layout import LAYOUTS, Columns, Layout
from localtune.data.shapes.turns import MEDIA
from localtune.data.shapes.values import Unusable, beginning, problem
from localtune.errors import InputError, Problem, safe
from localtune.settings import DataSettings

_LOOK = 100
"""Rows among which the first that is of any shape decides."""
_MEDIA = frozenset(MEDIA)
_PLAIN = ("text", "fim")
_ALIKE = ("messages", "prompt-completion", "alpaca", "sharegpt")
_OF_TURNS = ("messages", "sharegpt")
_UNREAD = ("data.messages", "data.role")
_LAYOUTS = {known.shape: known for known in LAYOUTS}


def examples(rows: Iterator[Row], settings: DataSettings, bad: BadRows) -> tuple[Format, Iterator[Example]]:
    """Format and normal forms of `rows`, lazily; unusable rows go to `bad`.

    Raises `InputError` for no rows at all, for rows of no shape, and for rows of different shapes.
    """
    named = {str(name): key for name, key in settings.columns.items()}
    given = None if settings.format == "auto" else settings.format
    looked: list[Row] = []
    for row in itertools.islice(rows, _LOOK):
        looked.append(row)
        if match(row.value, named, given):
            break
    if not looked:
        evidence = "\n".join(str(found) for found in bad.first)
        raise InputError(Problem("data.empty", "the file has no row that can be used", evidence=evidence))
    form = detect(looked[-1] if match(looked[-1].value, named, given) else looked[0], settings)
    return form, _normal_forms(itertools.chain(looked, rows), form, settings.system, bad)


def normal_form(row: Row, form: Format, system: str | None) -> Example | Problem:
    """`row` as the format says, with `system` where it has no system turn; or why it cannot be used.

    Raises `InputError` when the row has another shape than the file.
    """
    known, columns = _LAYOUTS[form.shape], form.columns
    if (keys := held(row.value)) != form.held:
        if not keys:
            return problem(row, "data.empty-row", "the row holds nothing")
        found = match(row.value, form.named, form.shape if form.given else None) or _emptied(row, form)
        if found is None:
            return columns_problem(row, form.named, form.shape)
        known, columns = found
        _check_alike(row, form, known, columns)
    try:
        if known.shape not in _PLAIN and not _MEDIA.isdisjoint(row.value):
            _refuse_media(row)
        return known.read(row, columns, system)
    except Unusable as error:
        if known.shape in _OF_TURNS and error.code in _UNREAD and (found := match(row.value, form.named, None)):
            _check_alike(row, form, *found)
        return problem(row, error.code, error.what)
    except RecursionError:
        return problem(row, "data.json", "the row is nested too deeply")


def _normal_forms(rows: Iterator[Row], form: Format, system: str | None, bad: BadRows) -> Iterator[Example]:
    for row in rows:
        example = normal_form(row, form, system)
        if isinstance(example, Problem):
            bad.add(example)
        else:
            yield example


def _emptied(row: Row, form: Format) -> tuple[Layout, Columns] | None:
    """Layout and columns of a row that has all its keys, and nothing in some."""
    columns = _LAYOUTS[form.shape].columns(row.value, form.named, sure=True, null=True)
    return None if columns is None else (_LAYOUTS[form.shape], columns)


def _check_alike(row: Row, form: Format, known: Layout, columns: Columns) -> None:
    """Raise `InputError` when the row has another shape, or in the same file other columns, than the first row."""
    if form.given:
        return
    elsewhere = row.place.number != form.first.place.number
    if known.shape != form.shape:
        if elsewhere and known.shape in _ALIKE and form.shape in _ALIKE:
            return
        raise InputError(_mixed(row, form, f"is {form.shape}", f"is {known.shape}"))
    needed = sorted(set[str]().union(*known.needed))
    moved = next((name for name in needed if form.columns.get(name) != columns.get(name)), None)
    if moved and not elsewhere:
        was, now = (safe(at.get(moved, "no column"), 40) for at in (form.columns, columns))
        raise InputError(_mixed(row, form, f"has its {moved} in {was}", f"in {now}"))


def _mixed(row: Row, form: Format, first: str, other: str) -> Problem:
    if row.place.number == form.first.place.number:
        what = f"the file mixes shapes: row {form.first.place.line} {first}, row {row.place.line} {other}"
        fix = "put each shape into a file of its own"
    else:
        what = f"the files have different shapes: {form.first.place} {first}, {row.place} {other}"
        fix = "name only files that are trained on in the same way"
    evidence = f"{form.first.place}  {beginning(form.first)}\n{row.place}  {beginning(row)}"
    return Problem("data.mixed", what, str(row.place), evidence, fix)


def _refuse_media(row: Row) -> None:
    for key in MEDIA:
        if row.value.get(key):
            raise Unusable("data.unsupported", f'the row has "{key}", and what is trained on is text')
