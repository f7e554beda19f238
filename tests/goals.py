"""What localtune promises, with targets, and the figures that tests reach: `make faults` shows them as a table.

A test takes the fixture `goal` and says what it has measured. Its short form runs in `make test`; with `FAULTS=full`
everything that records a figure runs, and all of tests/faults, as often as the promise says.
"""

import os
from collections.abc import Callable, Iterable

FULL = os.environ.get("FAULTS") == "full"
"""As often as the promise says, not only as often as a test that runs every day can."""

GOALS = {
    "kill": ("A killed run continues as if never killed", "200/200 usable, bit-identical, <= 1 save interval lost"),
    "save": ("A save never destroys the last good one", "0 losses, cut before every call"),
    "disk": ("Disk full pauses, never ruins", "0 of 30 corrupt, all resumed"),
    "signals": ("Ctrl+C, SIGTERM, closed terminal are safe", "60/60 within 10 s, terminal restored"),
    "heal": ("What ends a worker is explained and healed", "split update within 1e-6, trajectory 1e-4"),
    "batch": ("Batch size and accumulation change nothing", "gradient within 1e-5"),
    "tokens": ("Only the right tokens are trained", "exact"),
    "packing": ("Packing is invisible", "1e-5 in float32, leak 0"),
    "parity": ("Mac and PC train the same model", "loss within 1e-4 over 50 updates"),
    "fuse": ("What you fused is what you trained", "1e-5 in float32; correlation >= 0.95 or refused"),
    "export": ("What you export is what you chat with", "ids exact, top-1 >= 99 %, 8/8 word for word"),
    "nan": ("NaN never enters the weights nor hides", "0 updates applied, each on record"),
    "code": ("Opening a model runs no code", "0 runs, 0 crashes, <= 2 s, <= 256 MB; 1,000,000 inputs a parser"),
    "screen": ("Data cannot break the screen", "0 crashes, 0 control bytes out"),
    "rows": ("Bad rows are explained", "file, line, reason for 40/40"),
    "memory": ("The memory plan holds", "within 10 %"),
    "secrets": ("Secrets stay out", "0 hits"),
    "installs": ("Installs are what was tested", "100 % hashes, identical wheels"),
}
"""Key -> promise and target."""

Reached = Callable[[str, str], None]
"""Takes a key of `GOALS` and what was reached, in a few words with the figure."""


def times(short: int, full: int) -> int:
    """How often to try: `full` where everything is asked for."""
    return full if FULL else short


def table(found: Iterable[tuple[str, str]]) -> list[str]:
    """Lines of the table; a promise without a figure says so."""
    by_key: dict[str, list[str]] = {key: [] for key in GOALS}
    for key, figure in found:
        by_key[key].append(figure)
    lines = []
    for key, (promise, target) in GOALS.items():
        lines.append(f"{promise}  [{target}]")
        lines += [f"    {figure}" for figure in by_key[key] or ["no figure"]]
    return lines
