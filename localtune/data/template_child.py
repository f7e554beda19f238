"""A question about a chat template, answered in a process of its own that may die of it.

A template is a program of a stranger's: `bounds.Limits` hold for each question as they do for each row.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from localtune.data.bounds import SECONDS, Limits
from localtune.data.refusals import ORIGINAL
from localtune.errors import InputError, Problem

Answer = Callable[[Mapping[str, Any]], Any]
"""A function called `answer` in a module: JSON to JSON; it may raise `InputError`."""
_READY = "ready"


def ask(module: str, question: Mapping[str, Any]) -> Any:
    """What the function `answer` of `module` says. Raises its `InputError`, and that of template.endless or .failed."""
    code = f"from {module} import answer; from {__name__} import serve; serve(answer)"
    child = subprocess.run(
        [sys.executable, "-P", "-c", code],
        input=json.dumps(question),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    said = child.stdout.splitlines()
    if said[-1:] == [_READY]:
        what = f"the chat template has not come to an end within {SECONDS:g} seconds"
        raise InputError(Problem("template.endless", what, fix=ORIGINAL))
    if len(said) != 2:
        what = "the chat template ends the program that renders it"
        raise InputError(Problem("template.failed", what, fix=ORIGINAL))
    found = json.loads(said[1])
    if "problems" in found:
        raise InputError(*(Problem(**problem) for problem in found["problems"]))
    return found["answer"]


def serve(answer: Answer) -> None:
    """Answer the question on the standard input, within the limits."""
    question = json.load(sys.stdin)
    with tempfile.TemporaryFile() as progress:
        _say(_READY)
        try:
            with Limits(progress.fileno()):
                found = {"answer": answer(question)}
        except InputError as error:
            found = {"problems": [asdict(problem) for problem in error.problems]}
        _say(json.dumps(found))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
