"""What `localtune data check --json` found, as lines of a pane and as a word for each row."""

from collections.abc import Iterator, Mapping
from typing import Any

from localtune_tui.planned import Said, Weight

SEVERITY: Mapping[str, Weight] = {"error": "bad", "warning": "caution", "note": ""}


def findings_said(found: Mapping[str, Any]) -> Iterator[Said]:
    """Every finding with its count and what mends it; that there is none."""
    for finding in found["findings"]:
        yield Said(f"{finding['code']} {finding['count']:,}: {finding['what']}", SEVERITY[finding["severity"]])
        if finding["fix"]:
            yield Said(f"  fix: {finding['fix']}", "quiet")
    if not found["findings"]:
        yield Said(f"nothing wrong in {len(found['looked_for'])} checks")


def code_by_place(found: Mapping[str, Any]) -> dict[str, str]:
    """Place of a row -> code of the first finding that names it."""
    codes = dict[str, str]()
    for finding in found["findings"]:
        for place in finding["first"]:
            codes.setdefault(place.partition("  ")[0], finding["code"])
    return codes
