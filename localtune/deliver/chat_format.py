"""Chat templates that are known: recognised by what they render, and written as the Go templates that Ollama reads.

Ollama's TEMPLATE is a Go template over .System and .Messages; the Jinja in a GGUF only its newer releases render. A
Jinja template is known when, on every conversation of `CONVERSATIONS` that it renders, it renders what one of the
formats here does, character by character, on any day, but for a BOS that the file itself adds. Not compared: tools,
pictures, and blanks at either end of a message, which some templates cut off and a Go template cannot. The formats are
those their makers document: ChatML (OpenAI), Llama 3, Gemma, Phi-3, Mistral's [INST].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from localtune.data.tokenizer import Tokenizer
from localtune.deliver.renderings import renderings

Turn = tuple[str, str]
"""What stands before a message and behind it."""

_HISTORY = (
    {"role": "user", "content": "Hi, who are\nyou?"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSomebody: 여기 😀 {{ x }} <b>"},
    {"role": "user", "content": "2+2?"},
)
_SYSTEM = {"role": "system", "content": "Answer briefly.\n\nIn 한국어."}
CONVERSATIONS: tuple[tuple[Mapping[str, str], ...], ...] = (
    _HISTORY[:1],
    _HISTORY,
    (_SYSTEM, *_HISTORY[:1]),
    (_SYSTEM, *_HISTORY),
)
"""Each ends where an answer is to begin."""


@dataclass(frozen=True)
class ChatFormat:
    """How a conversation is written."""

    name: str
    user: Turn
    assistant: Turn
    asks: str
    """Behind the last message, before the answer."""
    system: Turn
    where: Literal["turn", "first", "last"]
    """The system text is a turn at the beginning, or stands in the first or last user's message, before its text."""
    always: bool = False
    """The system turn is written without a system text too."""
    default: str = ""
    """System text of conversations that have none."""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text of `messages`, of which only the first may be of the system, without BOS."""
        system = messages[0]["content"] if messages[0]["role"] == "system" else self.default
        rest = [message for message in messages if message["role"] != "system"]
        given = f"{self.system[0]}{system}{self.system[1]}" if system or self.always else ""
        host = {"turn": -1, "first": 0, "last": len(rest) - 1}[self.where]
        parts = [given] if self.where == "turn" else []
        for number, message in enumerate(rest):
            before, after = self.user if message["role"] == "user" else self.assistant
            parts += [before, given if number == host else "", message["content"], after]
        return "".join(parts) + self.asks

    def go_template(self) -> str:
        """The same as Ollama executes it: .Messages holds the system's message too, .System its text."""
        given = f"{self.system[0]}{{{{ $.System }}}}{self.system[1]}"
        if not self.always:
            otherwise = f"{{{{ else }}}}{self.system[0]}{self.default}{self.system[1]}" if self.default else ""
            given = f"{{{{ if $.System }}}}{given}{otherwise}{{{{ end }}}}"
        hosts = {
            "turn": "",
            "first": f"{{{{ if le $i 1 }}}}{given}{{{{ end }}}}",
            "last": f"{{{{ if eq (len (slice $.Messages $i)) 1 }}}}{given}{{{{ end }}}}",
        }
        user = f"{self.user[0]}{hosts[self.where]}{{{{ $m.Content }}}}{self.user[1]}"
        assistant = f"{self.assistant[0]}{{{{ $m.Content }}}}{self.assistant[1]}"
        turns = f'{{{{ if eq $m.Role "user" }}}}{user}{{{{ else if eq $m.Role "assistant" }}}}{assistant}{{{{ end }}}}'
        begin = given if self.where == "turn" else ""
        return f"{begin}{{{{ range $i, $m := .Messages }}}}{turns}{{{{ end }}}}{self.asks}"


def _headed(name: str, header: tuple[str, str], end: str, answerer: str = "assistant") -> ChatFormat:
    """Every message under a header that names who speaks."""
    system, user, assistant = (f"{header[0]}{who}{header[1]}" for who in ("system", "user", answerer))
    return ChatFormat(name, (user, end), (assistant, end), assistant, (system, end), "turn")


CHATML = _headed("ChatML", ("<|im_start|>", "\n"), "<|im_end|>\n")
LLAMA3 = _headed("Llama 3", ("<|start_header_id|>", "<|end_header_id|>\n\n"), "<|eot_id|>")
PHI3 = _headed("Phi-3", ("<|", "|>\n"), "<|end|>\n")
GEMMA = replace(
    _headed("Gemma", ("<start_of_turn>", "\n"), "<end_of_turn>\n", "model"), system=("", "\n\n"), where="first"
)
MISTRAL = ChatFormat("Mistral", ("[INST]", "[/INST]"), ("", "</s>"), "", ("", "\n\n"), "last")
MISTRAL_SPACED = replace(MISTRAL, user=("[INST] ", " [/INST]"), assistant=(" ", "</s>"), where="first")
MISTRAL_TIGHT = replace(MISTRAL, user=("[INST] ", " [/INST]"), where="first")
FORMATS = (CHATML, LLAMA3, PHI3, GEMMA, MISTRAL, replace(MISTRAL, where="first"), MISTRAL_SPACED, MISTRAL_TIGHT)


def known_format(tokenizer: Tokenizer) -> ChatFormat | None:
    """The format that the chat template of `tokenizer` renders; None for another one, or without a template.

    The template runs in a process of its own. Raises `InputError` for one that is not valid or never ends.
    """
    if tokenizer.template is None:
        return None
    return recognised(renderings(tokenizer, CONVERSATIONS), tokenizer.names.get("eos_token", ""))


def recognised(rendered: Sequence[str | None], eos: str = "") -> ChatFormat | None:
    """The format of which `rendered` are the `CONVERSATIONS`; None in it stands for one that a template refuses."""
    if rendered[0] is None or rendered[1] is None:
        return None
    for known in FORMATS:
        for candidate in (known, *_with_opening(known, rendered[0])):
            ended = _with_end(candidate, eos)
            texts = [(said, ended.render(chat)) for chat, said in zip(CONVERSATIONS, rendered, strict=True)]
            if all(said in (None, expected) for said, expected in texts):
                return ended
    return None


def _with_end(candidate: ChatFormat, eos: str) -> ChatFormat:
    """Mistral's answers end with the tokenizer's own eos."""
    before, after = candidate.assistant
    return replace(candidate, assistant=(before, eos)) if after == MISTRAL.assistant[1] and eos else candidate


def _with_opening(known: ChatFormat, rendered: str) -> list[ChatFormat]:
    """`known` with the text that its system turn holds in a conversation without a system's message, if it has one."""
    before, after = known.system
    if known.where != "turn" or not rendered.startswith(before):
        return []
    text, found, _ = rendered.removeprefix(before).partition(after)
    if not found or "{{" in text or "}}" in text:  # a Go template would take it for an action
        return []
    return [replace(known, default=text), replace(known, system=(before + text, after), always=True)]
