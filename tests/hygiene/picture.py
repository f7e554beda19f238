"""The picture of a run in the README: `python tests/hygiene/picture.py` runs the quickstart and draws what it said."""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / ".github" / "run.svg"
COMMAND = "localtune run quickstart"
WIDTH = 118
STYLES = {
    r"^(base|tuned) +exact match.*": "bold green",
    r"^step .*": "cyan",
    r"^  +[\d.]+ [MG]B .*": "dim",
    r"^\$ .*": "bold",
}


def said(folder: Path) -> list[str]:
    """What a run without a terminal prints, with paths as seen from the project."""
    command = [sys.executable, "-m", "localtune", *COMMAND.split()[1:]]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"LOCALTUNE_RUNS": str(folder)}
    )
    text = (run.stderr + run.stdout).replace(f"{ROOT}/", "").replace(str(folder), "~/localtune/runs")
    return [line for line in text.splitlines() if not line.startswith(("checkpoint", "sample at step 0"))]


def chosen(lines: list[str]) -> list[str]:
    """All but most of the updates and all samples but the last."""
    steps = [line for line in lines if line.startswith("step ")]
    samples = [i for i, line in enumerate(lines) if line.startswith("sample")]
    hidden = set(steps[1:-1]) - set(steps[:: max(1, len(steps) // 4)])
    dropped = {i + k for i in samples[:-1] for k in range(4)}
    return [line for i, line in enumerate(lines) if line not in hidden and i not in dropped]


def draw(lines: list[str]) -> str:
    """An SVG of `lines` that needs no font from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in [f"$ {COMMAND}", *lines]:
        style = next((style for pattern, style in STYLES.items() if re.match(pattern, line)), "")
        console.print(Text(line[: WIDTH - 1], style=style))
    svg = console.export_svg(title=COMMAND, unique_id="run")
    return re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as runs:
        PICTURE.write_text(draw(chosen(said(Path(runs)))), encoding="utf-8")
