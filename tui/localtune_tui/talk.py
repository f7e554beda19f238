"""A conversation as the app keeps it: who answers, what was asked and answered, and the requests that follow from it.

Each voice remembers its own answers; what was cut off stands as far as it came. Requests and events are those of
`localtune chat --json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Request = dict[str, Any]


@dataclass(frozen=True)
class Wishes:
    """How answers are drawn."""

    temperature: float = 0.0
    """0 = the likeliest word each time."""
    seed: int = 0
    """The same for every voice."""
    max_tokens: int = 1024
    """Of one answer."""
    system: str = ""
    """A system turn before everything else; "" = none."""


@dataclass
class Reply:
    """What one voice answers."""

    number: str
    """Its id in requests and events."""
    text: str = ""
    stopped: str = ""
    """ "end", "length", "cancelled", "error", or "lost" with the child; "" while it comes or waits."""
    problem: str = ""
    """Why there is none, in the command line's words."""
    speed: float | None = None
    """Tokens per second."""
    rated: str = ""
    """ "good" or "bad" once it is kept as such."""


@dataclass
class Exchange:
    """A question and its answers."""

    asked: str
    replies: dict[str, Reply] = field(default_factory=dict)
    """By voice, in the order in which they are asked."""


class Talk:
    """One conversation; `who` and `template` are known once the child is ready."""

    def __init__(self, *, compare: bool = True) -> None:
        self.who: tuple[str, ...] = ()
        self.template = True
        """Whether the model reads conversations; else each text is continued, and nothing is remembered."""
        self.compare = compare
        self.wishes = Wishes()
        self.exchanges: list[Exchange] = []
        self._count = 0

    @property
    def has_base(self) -> bool:
        """Whether there is a base to compare with."""
        return "base" in self.who

    @property
    def voices(self) -> tuple[str, ...]:
        """Who is asked, in order; the last is the one that is talked to."""
        return ("base", self.who[0]) if self.compare and self.has_base else self.who[:1]

    @property
    def pending(self) -> list[Reply]:
        """Answers that come or wait."""
        last = self.exchanges[-1].replies.values() if self.exchanges else ()
        return [reply for reply in last if not reply.stopped]

    @property
    def last(self) -> Reply | None:
        """The last answer of who is talked to."""
        found = self.exchanges[-1].replies if self.exchanges else {}
        return next((found[who] for who in self.voices[::-1] if who in found), None)

    def begin(self, ready: Mapping[str, Any]) -> None:
        """Take what the child says of itself."""
        listed = ready.get("who")
        self.who = tuple(map(str, listed)) if isinstance(listed, list) else ()
        self.template = ready.get("template") is not False

    def ask(self, text: str) -> list[Request]:
        """The requests that ask every voice for an answer to `text`."""
        heard = {who: self._heard(who) for who in self.voices}
        exchange = Exchange(text)
        self.exchanges.append(exchange)
        requests = []
        for who in self.voices:
            self._count += 1
            exchange.replies[who] = Reply(f"{self._count}")
            messages = [*heard[who], {"role": "user", "content": text}]
            requests.append(self._request(exchange.replies[who].number, who, messages))
        return requests

    def again(self) -> list[Request]:
        """Ask the last question once more; with the next seed where answers are drawn."""
        if not self.exchanges:
            return []
        if self.wishes.temperature:
            self.wishes = replace(self.wishes, seed=(self.wishes.seed + 1) % 2**63)
        return self.ask(self.exchanges.pop().asked)

    def reset(self) -> None:
        """Forget what was said."""
        self.exchanges.clear()

    def cancel(self) -> list[Request]:
        """The requests that end every answer under way."""
        return [{"cancel": reply.number} for reply in self.pending]

    def lose(self) -> None:
        """The child is gone: what has not come will not."""
        for reply in self.pending:
            reply.stopped = "lost"

    def take(self, event: Mapping[str, Any]) -> None:
        """Take a token, an end, an error or a note of the child."""
        reply = self._reply(str(event.get("id")))
        if reply is None:
            return
        match event.get("event"):
            case "token":
                reply.text += str(event.get("text", ""))
            case "done":
                reply.stopped = str(event.get("stopped", "end"))
                speed = event.get("tokens_per_second")
                reply.speed = float(speed) if isinstance(speed, int | float) else None
            case "kept":
                reply.rated = "good" if event.get("good") else "bad"
            case "error" if not reply.stopped:
                reply.stopped, reply.problem = "error", str(event.get("text", ""))

    def _reply(self, number: str) -> Reply | None:
        found = (reply for exchange in self.exchanges[::-1] for reply in exchange.replies.values())
        return next((reply for reply in found if reply.number == number), None)

    def _request(self, number: str, who: str, messages: Sequence[Request]) -> Request:
        system = [{"role": "system", "content": self.wishes.system}] if self.wishes.system and self.template else []
        return {
            "id": number,
            "messages": [*system, *messages],
            "who": who,
            "temperature": self.wishes.temperature,
            "seed": self.wishes.seed,
            "max_tokens": self.wishes.max_tokens,
        }

    def _heard(self, who: str) -> list[Request]:
        """What `who` was asked and said; what it was not asked, as who is talked to said it."""
        turns: list[Request] = []
        for exchange in self.exchanges if self.template else ():
            reply = exchange.replies.get(who) or next(iter([*exchange.replies.values()][::-1]), None)
            if reply is not None and reply.text:
                turns.append({"role": "user", "content": exchange.asked})
                turns.append({"role": "assistant", "content": reply.text})
        return turns
