"""What a chat template writes for given conversations, found out in a process of its own.

A template is a program of a stranger's and may never end: its process does, `SECONDS` after its libraries are loaded.
"""

import datetime
import faulthandler
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from localtune.data.template import ChatTemplate, Refused
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, Problem

SECONDS = 5.0
_DAYS = (datetime.date(2001, 2, 3), datetime.date(2034, 11, 22))


def renderings(tokenizer: Tokenizer, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str | None]:
    """Each conversation as the template of `tokenizer` asks for an answer, without the BOS that llama.cpp puts first.

    None for one that it refuses, and for one that is written otherwise on another day. Raises `InputError`
    (template.syntax, .endless, .failed).
    """
    begins = tokenizer.names.get("bos_token", "") if tokenizer.prefix else ""  # as in export.special_ids
    asked = {"source": tokenizer.template, "names": tokenizer.names, "begins": begins, "conversations": conversations}
    command = [sys.executable, "-P", "-c", f"from {__name__} import serve; serve({SECONDS})"]
    child = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    said = child.stdout.splitlines()
    if said[-1:] == [_READY]:
        what = f"the chat template has not come to an end within {SECONDS:g} seconds"
        raise InputError(Problem("template.endless", what, fix=_FIX))
    if len(said) != 2:
        what = "the chat template ends the program that renders it"
        raise InputError(Problem("template.failed", what, fix=_FIX))
    found = json.loads(said[1])
    if "problems" in found:
        raise InputError(*(Problem(**problem) for problem in found["problems"]))
    texts: list[str | None] = found["texts"]
    return texts


_FIX = "use the model's original chat template"
_READY = "ready"


def serve(seconds: float) -> None:
    """Answer the question on the standard input; end the process after `seconds`, whatever it does."""
    asked = json.load(sys.stdin)
    with open(os.devnull, "wb") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        _say(_READY)
        try:
            templates = [ChatTemplate(asked["source"], asked["names"], day) for day in _DAYS]
            texts = [_rendered(templates, chat, asked["begins"]) for chat in asked["conversations"]]
            _say(json.dumps({"texts": texts}))
        except InputError as error:
            _say(json.dumps({"problems": [asdict(problem) for problem in error.problems]}))
        faulthandler.cancel_dump_traceback_later()


def _rendered(templates: Sequence[ChatTemplate], chat: Sequence[Mapping[str, str]], begins: str) -> str | None:
    try:
        first, *others = (template.render(chat, prompt=True).text for template in templates)
    except Refused:
        return None
    same = all(other == first for other in others)
    return first.removeprefix(begins) if same else None


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
