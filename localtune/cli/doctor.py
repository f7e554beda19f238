"""`localtune doctor`: what is installed, what is missing, and the command that mends it."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from localtune.doctor import LOOKS, Finding, can_train, examine
from localtune.errors import MachineError, safe
from localtune.redacted import redact


@click.command()
@click.option("--json", "as_json", is_flag=True, help="All findings as JSON.")
def doctor(as_json: bool) -> None:
    """Say what is installed and what is missing here, with the command that mends it; exit 3 if nothing can train."""
    findings = examine(LOOKS)
    able = can_train(findings)
    if as_json:
        click.echo(json.dumps({"can_train": able, "findings": [_redacted(finding) for finding in findings]}, indent=2))
    else:
        for line in lines(findings):
            click.echo(line)
    sys.exit(0 if able else MachineError.exit_code)


def _redacted(finding: Finding) -> dict[str, object]:
    """A finding is words: none of its paths is for a program."""
    return asdict(finding) | {"text": redact(finding.text), "fix": redact(finding.fix)}


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The findings for a person: a line each under their groups, what mends one below it, and the sum at the end."""
    shown = list(_folded(findings))
    width, group = max((len(finding.name) for finding in shown), default=0), ""
    for finding in shown:
        if finding.group != group:
            group = finding.group
            yield group
        optional = finding.status == "missing" and not finding.fix and not finding.needed
        yield f"  {'-' if optional else finding.status:<8} {finding.name:<{width}}  {safe(finding.text, 400)}"
        if finding.fix:
            yield f"  {'':<8} {'':<{width}}  fix: {safe(finding.fix, 400)}"
    lacking = [finding.name for finding in findings if finding.needed and finding.status == "missing"]
    yield f"this machine cannot train yet: {', '.join(lacking)}" if lacking else "this machine can train"


def _folded(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Packages that are as required on one line, ahead of those that are not."""
    good = [finding for finding in findings if finding.group == "packages" and finding.status == "ok"]
    for finding in findings:
        if good and finding is good[0]:
            count = sum(other.group == "packages" for other in findings)
            yield Finding("required", "ok", f"{len(good)} of {count} as required", group="packages")
        if not any(finding is other for other in good):
            yield finding
