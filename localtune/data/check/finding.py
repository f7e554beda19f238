"""What a look at the data has to say: a finding, and the rows it was seen in."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from localtune.data.conversations import Example
from localtune.data.rows import Place
from localtune.errors import safe

KEPT = 5
"""Rows a finding names."""
EVIDENCE = 80
"""Characters of a row that are shown beside its place."""

Severity = Literal["error", "warning", "note"]
"""error: a run would stop, or measure something else than it says; warning: most likely not what was meant; note:
what a person should know."""


@dataclass(frozen=True)
class Finding:
    """One kind of thing that was seen."""

    code: str
    severity: Severity
    count: int
    """Rows, unless `what` says otherwise."""
    what: str
    """One sentence."""
    first: tuple[str, ...] = ()
    """Places of the first rows, "file:line", with what is there where that helps; at most five."""
    fix: str = ""
    """A command that can be typed, or the edit to make."""
    details: dict[str, int] = field(default_factory=dict)
    """The count by kind."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"first": list(self.first)}


@dataclass
class Tally:
    """Rows of one kind: how many, and where the first ones are."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    details: dict[str, int] = field(default_factory=dict)

    def add(self, place: Place | str, evidence: str = "", kind: str = "") -> None:
        """Count a row at `place`; `evidence` is made safe and shortened."""
        self.count += 1
        if kind:
            self.details[kind] = self.details.get(kind, 0) + 1
        if len(self.first) < KEPT:
            self.first.append(f"{place}  {safe(evidence, EVIDENCE)}" if evidence else str(place))

    def finding(self, code: str, severity: Severity, what: str, fix: str = "") -> Iterator[Finding]:
        """The finding, if a row was counted."""
        if self.count:
            yield Finding(code, severity, self.count, what, tuple(self.first), fix, dict(self.details))


@dataclass(frozen=True)
class Seen:
    """A row as the looks get it."""

    example: Example
    value: dict[str, Any]
    """The row as it stands in the file."""
    text: str
    """All text of the example."""

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.example.place


class Look(Protocol):
    """Something that is looked for in every row."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Of the findings it can make."""

    def see(self, row: Seen) -> None:
        """Look at the next row."""

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen, once all rows were looked at. `name`: the data as a command line names it."""


def plural(count: int, one: str = "row", many: str = "") -> str:
    """`count` with its noun: 1 row, 2 rows."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
