"""The list of runs as it is on disk: names at once, rows as they are wanted. For one thread that fills it."""

import time
from collections.abc import Iterable
from itertools import islice

from localtune.runs.files import folder_size
from localtune.runs.folder import Run
from localtune.runs.store import all_runs, root
from localtune.sizes import readable
from localtune_tui.amounts import about, sign
from localtune_tui.run_rows import RunRow, read_filter, read_row, sort_key

NEWEST = 20
"""Runs whose rows are always read."""
BATCH = 12
"""Rows that are read between two looks at what is wanted."""
MOMENT = 0.5
"""Seconds that folders are measured for, before rows are looked at again."""
BREATH = 0.005
"""Seconds between two batches, in which the screen can be painted."""


class RunList:
    """Every run, the newest first, with the rows that have been read."""

    def __init__(self) -> None:
        self.rows: dict[str, RunRow] = {}
        self.runs: dict[str, Run] = {}
        self.sizes: dict[str, int] = {}
        """Bytes of the folders that have been measured."""
        self.trouble = ""
        """Why the runs cannot be listed."""
        self._stamp = -1

    @property
    def folder(self) -> str:
        """Where the runs lie."""
        return str(root())

    def look(self) -> bool:
        """List the names again where the folder has changed; returns whether it had."""
        try:
            stamp = root().stat().st_mtime_ns if root().is_dir() else 0
            if stamp == self._stamp:
                return False
            self.runs = {run.name: run for run in reversed(all_runs())}
            self._stamp, self.trouble = stamp, ""
        except OSError as error:
            self.trouble = f"the runs in {root()} cannot be listed: {error.strerror or error}"
        self.rows = {name: row for name, row in self.rows.items() if name in self.runs}
        return True

    def measure(self) -> bool:
        """Sum the files of runs that were not measured or still grow, for a moment; returns whether any were."""
        wanted = [name for name in self.runs if name not in self.sizes] + self.alive()
        end = time.monotonic() + MOMENT
        for number, name in enumerate(wanted, 1):
            try:
                self.sizes[name] = folder_size(self.runs[name].folder)
            except (KeyError, OSError):  # it was removed meanwhile
                self.sizes[name] = 0
            if time.monotonic() > end:
                break
            if number % BATCH == 0:
                breathe()
        return bool(wanted)

    def said(self, fitting: int, order: str, *, read: bool) -> str:
        """How many fit, the size of all once it is known, their order; `read`: how many rows are, till all are."""
        total, sizes = len(self.runs), [self.sizes[name] for name in list(self.runs) if name in self.sizes]
        size = f"{readable(sum(sizes))} on disk" if total and len(sizes) == total else ""
        reading = f"reading {len(self.rows):,}" if read and len(self.rows) < total else ""
        return " · ".join(part for part in (f"{fitting:,} of {total:,}", size, f"by {order}", reading) if part)

    def again(self) -> None:
        """List at the next look, whatever the folder says."""
        self._stamp = -1

    def read(self, names: Iterable[str]) -> bool:
        """Read the rows of `names` that are new or may have changed; returns whether any row is another now."""
        changed = False
        for name in names:
            run, before = self.runs.get(name), self.rows.get(name)
            if run is None:
                continue
            row = read_row(run, before)
            if row is not before:
                self.rows[name] = row
                changed = changed or row != before
        return changed

    def unread(self, most: int = BATCH) -> list[str]:
        """Some runs whose rows have not been read."""
        return list(islice((name for name in self.runs if name not in self.rows), most))

    def newest(self) -> list[str]:
        """The runs that were made last: one of them may be running."""
        return list(islice(self.runs, NEWEST))

    def alive(self) -> list[str]:
        """Runs that somebody works on, as far as they are known."""
        return [name for name, row in list(self.rows.items()) if row.alive]

    def running(self, *, ascii_only: bool = False) -> list[str]:
        """A few words on each of the first two that somebody works on."""
        return [_words(self.rows[name], ascii_only=ascii_only) for name in self.alive()[:2] if name in self.rows]

    def chosen(self, wanted: str, order: str) -> list[str]:
        """The names that fit the filter `wanted`, in that order."""
        rows, fits = self.rows, read_filter(wanted).fits
        names = [name for name in self.runs if fits(rows.get(name), name)] if wanted else list(self.runs)
        return names if order == "when" else sorted(names, key=lambda name: sort_key(order, name, rows.get(name)))


def _words(row: RunRow, *, ascii_only: bool) -> str:
    share = f" {row.step / row.steps:.0%}" if row.steps else ""
    if row.state == "paused":
        return f"{sign(row.state, ascii_only=ascii_only)} paused: {row.stem}{share}  {row.detail}".rstrip()
    left = f" ETA {about(row.left)}" if row.left else ""
    return f"{sign(row.state, ascii_only=ascii_only)} {row.state}: {row.stem}{share}{left}"


def breathe() -> None:
    """Let others run."""
    time.sleep(BREATH)
