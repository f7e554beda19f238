"""Turns in the order that chats have: a system turn only first, then a question, then its answer."""

import itertools
from collections.abc import Iterator, Sequence

from localtune.data.check.finding import Finding, Seen, Severity, Tally
from localtune.data.conversations import Conversation, Example, Labelled, Message, Pair, Preference
from localtune.errors import Problem

EMPTY_CODES = ("data.empty-content", "data.nothing-to-learn")
"""Why a row was found unusable, where something in it is empty."""


def order_fault(messages: Sequence[Message]) -> str:
    """What is wrong with the order of the roles, or ""."""
    if any(message.role == "system" for message in messages[1:]):
        return "a system turn that is not the first"
    roles = [message.role for message in messages if message.role != "system"]
    if roles[:1] == ["assistant"] and "user" in roles:
        return "an answer before any question"
    for before, after in itertools.pairwise(roles):
        if before == after == "user":
            return "two user turns in a row"
        if before == after == "assistant":
            return "two answers in a row"
        if before == "user" and after == "tool":
            return "a tool's result without a call"
    return ""


def empty_fault(example: Example) -> str:
    """What is empty or lacks its other side, or ""."""
    match example:
        case Conversation(messages=messages):
            for number, message in enumerate(messages, start=1):
                if not message.content.strip() and not message.calls and not message.reasoning:
                    return f"turn {number} ({message.role}) is empty"
            return "" if any(message.role == "user" for message in messages) else "no user turn"
        case Pair(prompt=prompt, completion=completion):
            return "the prompt is empty" if not prompt.strip() else "" if completion.strip() else "the answer is empty"
        case Preference(chosen=chosen, rejected=rejected):
            return empty_fault(chosen) or empty_fault(rejected)
        case Labelled(example=inner):
            return empty_fault(inner)
        case _:
            return ""


def learns_nothing(example: Example) -> bool:
    """Whether no answer of a conversation counts."""
    if not isinstance(example, Conversation):
        return False
    return not any(message.role == "assistant" and message.weight > 0 for message in example.messages)


def is_empty(outcome: Example | Problem) -> bool:
    """Whether `--fix empty` drops the row."""
    if isinstance(outcome, Problem):
        return outcome.code in EMPTY_CODES
    return bool(empty_fault(outcome)) or learns_nothing(outcome)


class Turns:
    """Looks at roles and at what is empty."""

    codes = ("empty", "no-target", "role-order", "unanswered")

    def __init__(self) -> None:
        self._empty, self._no_target, self._order, self._unanswered = Tally(), Tally(), Tally(), Tally()
        self._unusable: set[str] = set()
        self.stops = False
        """Whether so many rows are unusable that a run stops."""

    def unusable(self, problem: Problem) -> bool:
        """Take up a row that is unusable because something in it is empty; False for any other reason."""
        if problem.code == "data.empty-content":
            self._empty.add(problem.where, problem.what)
        elif problem.code == "data.nothing-to-learn":
            self._no_target.add(problem.where, problem.what)
        self._unusable.add(problem.code)
        return problem.code in EMPTY_CODES

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        if learns_nothing(row.example):
            self._no_target.add(row.place, "no answer, or all of weight 0")
        elif empty := empty_fault(row.example):
            self._empty.add(row.place, empty)
        for messages in _conversations(row.example):
            if fault := order_fault(messages):
                self._order.add(row.place, fault, fault)
            if messages and messages[-1].role != "assistant":
                self._unanswered.add(row.place, f"ends with a turn of {messages[-1].role}")

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        drop = f"localtune data check {name} --fix empty -o clean.jsonl"
        what = "turns or sides are empty: the model would learn to say nothing, or to answer nothing"
        yield from self._empty.finding("empty", self._severity("data.empty-content"), what, drop)
        what = "nothing in these rows is learned"
        yield from self._no_target.finding("no-target", self._severity("data.nothing-to-learn"), what, drop)
        what = "roles are not in the order of a chat; templates refuse such rows or render them oddly"
        yield from self._order.finding("role-order", "warning", what, "merge the turns, or move the system turn first")
        what = "conversations end without an answer; what follows the last answer is read but not learned"
        yield from self._unanswered.finding("unanswered", "note", what, "remove the last turns, or add the answer")

    def _severity(self, code: str) -> Severity:
        return "error" if self.stops and code in self._unusable else "warning"


def _conversations(example: Example) -> Iterator[Sequence[Message]]:
    match example:
        case Conversation(messages=messages):
            yield messages
        case Preference(chosen=chosen):
            yield from _conversations(chosen)
        case Labelled(example=inner):
            yield from _conversations(inner)
