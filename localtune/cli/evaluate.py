"""`localtune eval`: base and tuned model on held-out rows."""

from pathlib import Path

import click

from localtune.cli.options import to_json
from localtune.evaluate import figures, measure
from localtune.job import read_job, with_tests
from localtune.runs.store import find_run
from localtune.words import event_lines


@click.command("eval")
@click.argument("name", metavar="RUN", default="last")
@click.option("--data", help="File of test rows; default: the recipe's test rows.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def evaluate(name: str, data: str | None, as_json: bool) -> None:
    """Measure base and tuned model on held-out rows: loss, perplexity, exact match."""
    job = with_tests(read_job(find_run(name)), Path(data).resolve() if data else None)
    measured = []
    for event in measure(job):
        measured.append(figures(event))
        for line in event_lines(event):
            click.echo(line, err=as_json)
    if as_json:
        click.echo(to_json(measured))
