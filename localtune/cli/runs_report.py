"""`localtune runs report`: one run on one page, or its curves as one picture, for people who share results.

The file is complete in itself: no script, nothing loaded from anywhere, every text escaped. It holds the recipe as it
was given and the answers to the fixed prompts, and says so.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from localtune.cli.loss_picture import Losses, escaped, picture
from localtune.cli.options import to_json
from localtune.cli.show import plan_lines
from localtune.errors import InputError, LocaltuneError, Problem, safe
from localtune.events import Done, Evaluation, Event, Match, Proof, Sample, Step, Warn
from localtune.job import read_plan
from localtune.recipe import load
from localtune.runs.files import folder_size, write_bytes
from localtune.runs.folder import Run
from localtune.runs.store import find_run
from localtune.sizes import readable
from localtune.words import VERDICTS, duration
from localtune.worked import seconds_worked

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8884; }
svg { max-width: 100%; height: auto; }
.quiet { opacity: .75; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@click.command("report")
@click.argument("name", metavar="RUN", default="last")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="FILE.html, or FILE.svg for curves."
)
@click.option("--json", "as_json", is_flag=True, help="Say as JSON what was written.")
def report(name: str, output: Path, as_json: bool) -> None:
    """One run as one HTML page (curves, figures, samples, proof, recipe), or its curves as one SVG."""
    run = find_run(name)
    if output.suffix.lower() not in (".html", ".htm", ".svg"):
        what = f"a report is an .html page or an .svg picture, not {output.suffix or 'a file without a suffix'}"
        raise InputError(Problem("report.kind", what, where=str(output), fix=f"-o {output.stem}.html"))
    losses, events = _read(run)
    title, subtitle = run.name, _subtitle(run, events)
    drawn = picture(losses, title, subtitle)
    text = drawn if output.suffix.lower() == ".svg" else _page(run, title, subtitle, drawn, events)
    write_bytes(output.absolute(), text.encode("utf-8"))
    if as_json:
        click.echo(to_json({"report": str(output.absolute()), "size": output.stat().st_size}))
    else:
        click.echo(safe(f"wrote {output}"), err=True)


def _read(run: Run) -> tuple[Losses, list[Event]]:
    """The curves, and every event but updates."""
    losses = Losses()
    events: list[Event] = []
    for event, _ in run.read_events():
        losses.take(event)
        if not isinstance(event, Step):
            events.append(event)
    return losses, events


def _subtitle(run: Run, events: Sequence[Event]) -> str:
    state = run.status().state
    best = [event for event in events if isinstance(event, Evaluation) and event.split == "valid"]
    lowest = min(best, key=lambda event: event.loss, default=None)
    said = f", best validation loss {lowest.loss:.4g} at update {lowest.step:,}" if lowest else ""
    return f"{state}{said}"


def _page(run: Run, title: str, subtitle: str, drawn: str, events: Sequence[Event]) -> str:
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="quiet">{escaped(subtitle)}</p>',
        drawn,
        *_figures(run, events),
        *_samples(events),
        *_proofs(events),
        *_warnings(events),
        *_plan(run),
        *_recipe(run),
        '<p class="quiet">Made by localtune. Losses are nats per learned token.</p>',
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    if not rows:
        return
    yield f"<h2>{escaped(title)}</h2>\n<table>"
    if head:
        yield "<tr>" + "".join(f"<th>{escaped(cell)}</th>" for cell in head) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"


def _figures(run: Run, events: Sequence[Event]) -> Iterator[str]:
    rows: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case Evaluation(split="test"):
                rows.append((f"test loss, {event.who}", f"{event.loss:.4f}, accuracy {event.accuracy:.1%}"))
            case Match():
                of = f" ({event.group})" if event.group else ""
                rows.append((f"exact match{of}, {event.who}", f"{event.exact:,} of {event.rows:,}"))
            case Done():
                rows.append(("memory", f"peak {readable(event.peak_bytes)}, planned {readable(event.planned_bytes)}"))
    rows.append(("time", duration(seconds_worked(run.events))))
    rows += [(product.name, readable(folder_size(product))) for product in run.products()]
    yield from _table("Figures", (), rows)


def _samples(events: Sequence[Event]) -> Iterator[str]:
    newest = {event.prompt: event for event in events if isinstance(event, Sample)}
    rows = [(sample.prompt, sample.base, sample.tuned) for sample in newest.values()]
    yield from _table("Samples", ("prompt", "base", "tuned"), rows)


def _proofs(events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        if isinstance(event, Proof):
            rows = [
                (check.get("name", ""), VERDICTS.get(check.get("passed"), "—"), check.get("text", ""))
                for check in event.checks
            ]
            yield from _table(f"Proof of {event.product}: {'passed' if event.passed else 'FAILED'}", (), rows)


def _warnings(events: Sequence[Event]) -> Iterator[str]:
    yield from _table("Notes", (), [(event.code, event.text) for event in events if isinstance(event, Warn)])


def _plan(run: Run) -> Iterator[str]:
    try:
        lines = list(plan_lines(read_plan(run), load(run.resolved, environ={}, user_config=None).recipe))
    except (LocaltuneError, OSError, KeyError, TypeError):
        return
    yield "<h2>Plan</h2>\n<pre>" + "\n".join(escaped(line) for line in lines) + "</pre>"


def _recipe(run: Run) -> Iterator[str]:
    try:
        text = run.recipe.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    yield "<h2>Recipe</h2>\n<pre>" + "\n".join(escaped(line) for line in text.splitlines()) + "</pre>"
