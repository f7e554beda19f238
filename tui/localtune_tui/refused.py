"""What the command line says of rows that cannot be used, for a pane: a line for each kind, not one for each row."""

import re

_PROBLEM = re.compile(r"error\[(?P<code>[\w.-]+)\]: (?P<place>.*?)  (?P<what>.*)")
_COUNTED = "data.too-many-bad"
"""Code of the problem that says how many rows there are; it comes behind the first of them."""


def few_lines(text: str) -> list[str]:
    """`text` in lines; where it lists rows that cannot be used, how many, a line for each kind, and the keys that help.

    A kind is told by its first row: the command line names no more than the first few.
    """
    problems = [found for line in text.splitlines() if (found := _PROBLEM.match(line))]
    counted = next((problem for problem in problems if problem["code"] == _COUNTED), None)
    if counted is None:
        return text.splitlines()
    kinds = dict[str, str]()
    for problem in problems:
        kinds.setdefault(problem["code"], f"  {problem['what']} (first: {_where(problem['place'], counted['place'])})")
    del kinds[_COUNTED]
    return [counted["what"], *kinds.values(), "  fix: v, then f, writes a clean copy"]


def _where(place: str, file: str) -> str:
    """The line alone, in the one file there is."""
    line = place.removeprefix(f"{file}:").partition(":")[0]
    return f"line {line}" if line.isdecimal() else place
