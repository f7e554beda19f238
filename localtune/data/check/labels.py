"""How often each label occurs, where rows have any: wanted or not (KTO), or a column `label` or `group`."""

from collections import Counter
from collections.abc import Iterator

from localtune.data.check.finding import Finding, Seen
from localtune.data.conversations import Labelled
from localtune.errors import safe
from localtune.typed import typed

RATIO = 10
"""The commonest label may be so many times as frequent as the rarest."""
MOST_LABELS = 50
"""A column with more values holds no labels."""
FEWEST_ROWS = 20
_COLUMNS = ("label", "group")


class Labels:
    """Counts labels."""

    codes = ("imbalance",)

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in ("wanted", *_COLUMNS)}
        """Column -> label -> rows; a column that holds no labels is emptied and passed over."""
        self._closed: set[str] = set()

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        if isinstance(row.example, Labelled):
            self.counts["wanted"]["wanted" if row.example.wanted else "unwanted"] += 1
            return
        for column in _COLUMNS:
            value = row.value.get(column)
            if isinstance(value, str | int | bool) and column not in self._closed:
                self._count(column, str(value))

    def findings(self, name: str) -> Iterator[Finding]:
        """Columns in which one label is rare."""
        for column, counts in self.counts.items():
            if (len(counts) < 2 and column != "wanted") or counts.total() < FEWEST_ROWS:
                continue
            rarest, commonest = min(counts.values()), max(counts.values())
            if len(counts) < 2:
                what = f"all rows are {next(iter(counts))}: nothing tells good answers from bad ones"
                yield Finding("imbalance", "warning", commonest, what, fix="add rows of the other kind")
            elif commonest >= RATIO * rarest:
                listed = ", ".join(f"{safe(label, 30)} {count:,}" for label, count in counts.most_common(6))
                more = ", …" if len(counts) > 6 else ""
                what = f"labels of {column} are out of balance: {listed}{more}"
                split = f"localtune data split {name} --by stratify --key {typed(column)} -o DIR"
                fix = f"{split}   keeps the shares in each part"
                if column == "wanted":
                    fix = "add rows of the rarer kind"
                yield Finding("imbalance", "note", rarest, what, fix=fix, details=dict(counts.most_common(MOST_LABELS)))

    def _count(self, column: str, label: str) -> None:
        self.counts[column][label] += 1
        if len(self.counts[column]) > MOST_LABELS:
            self.counts[column].clear()
            self._closed.add(column)
