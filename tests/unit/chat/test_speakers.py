"""Who answers: prompts as in training, text that is never cut inside a character, limits that are said."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.backend import Sampling, Session
from localtune.chat.answer import Answer, Wishes
from localtune.chat.opening import stops
from localtune.chat.pieces import Pieces
from localtune.chat.speakers import GgufSpeaker, SessionSpeaker
from localtune.data.conversations import Message
from localtune.data.render import Renderer
from localtune.data.rendering import Rendering
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError
from localtune.llamacpp import Ended, LlamaServer
from localtune.model import resolve
from tests.command import MODEL
from tests.unit.chat.tiny_gguf import write_gguf
from tests.unit.data.builders import TALK, byte_level, save_tokenizer, segments, sentencepiece

HI = [Message("user", "hi")]


class Scripted:
    """A session that says the tokens it was given, and remembers what it was asked."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.asked: list[tuple[list[int], Sampling, bool]] = []
        self.closed = 0

    def generate(self, prompts: Any, sampling: Sampling, *, adapter: bool = True) -> Iterator[tuple[int, int]]:
        self.asked.append((list(prompts[0]), sampling, adapter))
        try:
            for token in self.tokens[: sampling.max_tokens]:
                yield 0, token
                if token in sampling.stop:
                    return
        finally:
            self.closed += 1


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return save_tokenizer(tmp_path_factory.mktemp("chat"))


def _speaker(session: Scripted, tokenizer: Tokenizer, context: int = 200, *, adapter: bool = True) -> SessionSpeaker:
    stop = (tokenizer.id_of("<|im_end|>"),)
    renderer = Renderer(tokenizer, learn="answers")
    return SessionSpeaker(cast(Session, session), renderer, stop, context, adapter=adapter)


def test_a_prompt_is_what_training_showed_before_the_answer(tokenizer: Tokenizer) -> None:
    for turns in (2, 4):
        ids = Renderer(tokenizer, learn="answers").conversation_ids(TALK.messages[:turns])
        whole = segments(tokenizer, TALK)[0]
        assert tuple(whole.tokens[: len(ids)]) == ids
        assert whole.weights[len(ids)] == 1.0


def test_a_typed_control_string_stays_text(tokenizer: Tokenizer) -> None:
    ids = Renderer(tokenizer, learn="answers").conversation_ids([Message("user", "a<|im_end|>b")])
    assert ids.count(tokenizer.id_of("<|im_end|>")) == 1


def test_characters_that_mark_places_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="reserved"):
        Renderer(tokenizer, learn="answers").conversation_ids([Message("user", "\U0010fff2" + "0")])


def test_an_answer_is_text_without_its_end(tokenizer: Tokenizer) -> None:
    session = Scripted([*tokenizer.encode("héllo\n", special=False), tokenizer.id_of("<|im_end|>"), 5, 5])
    answer = Answer(_speaker(session, tokenizer), HI, Wishes(0.7, 0.9, 3, 50))
    assert "".join(answer) == answer.text == "héllo\n"
    assert answer.ended == Ended(8, True)
    assert answer.speed > 0
    asked, sampling, adapter = session.asked[0]
    assert asked == list(Renderer(tokenizer, learn="answers").conversation_ids(HI))
    assert sampling == Sampling((tokenizer.id_of("<|im_end|>"),), 50, 0.7, 0.9, 3)
    assert adapter


def test_the_base_answers_without_the_adapter(tokenizer: Tokenizer) -> None:
    session = Scripted([70])
    list(Answer(_speaker(session, tokenizer, adapter=False), HI, Wishes()))
    assert not session.asked[0][2]


def test_an_answer_ends_where_the_model_reads_no_more(tokenizer: Tokenizer) -> None:
    session = Scripted([70] * 500)
    answer = Answer(_speaker(session, tokenizer, context=60), HI, Wishes())
    list(answer)
    assert answer.ended is not None
    assert not answer.ended.stopped
    assert len(session.asked[0][0]) + answer.ended.tokens == 60
    assert answer.cut == "context"


def test_which_limit_cut_an_answer_is_known(tokenizer: Tokenizer) -> None:
    cuts: dict[str, str | None] = {}
    for name, tokens, most in (("cut", [70] * 9, 5), ("ended", [70, tokenizer.id_of("<|im_end|>")], 2)):
        answer = Answer(_speaker(Scripted(tokens), tokenizer), HI, Wishes(max_tokens=most))
        assert answer.cut is None
        list(answer)
        cuts[name] = answer.cut
    assert cuts == {"cut": "max_tokens", "ended": None}


def test_a_conversation_that_is_too_long_is_refused_with_both_numbers(tokenizer: Tokenizer) -> None:
    speaker = _speaker(Scripted([70]), tokenizer, context=60)
    with pytest.raises(InputError, match=r"has 1[\d]{2} tokens, the model reads 60"):
        list(Answer(speaker, [Message("user", "a" * 100)], Wishes()))


def test_an_answer_that_is_left_is_no_longer_drawn(tokenizer: Tokenizer) -> None:
    session = Scripted([70] * 500)
    answer = Answer(_speaker(session, tokenizer), HI, Wishes())
    pieces = iter(answer)
    assert next(pieces)
    pieces.close()
    assert (session.closed, answer.ended, len(answer.text)) == (1, None, 1)
    assert answer.seconds > 0


@pytest.mark.parametrize("messages", [[Message("system", "s"), *HI], [*HI, Message("assistant", "a"), *HI]])
def test_without_a_template_one_text_is_continued(tmp_path: Path, messages: list[Message]) -> None:
    raw = save_tokenizer(tmp_path, template=None, bos=True)
    session = Scripted([70])
    speaker = _speaker(session, raw)
    list(Answer(speaker, HI, Wishes()))
    assert session.asked[0][0] == raw.encode("hi", special=True)
    with pytest.raises(InputError, match="no chat template"):
        list(Answer(speaker, messages, Wishes()))


TOKENIZERS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "bytes": byte_level,
    "prepend": partial(sentencepiece, "prepend"),
    "always": partial(sentencepiece, "always"),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def any_tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return save_tokenizer(tmp_path_factory.mktemp("any"), TOKENIZERS[request.param]())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs", "Co"]) | st.sampled_from(" ▁\n€👩‍🚀<>")))
def test_pieces_together_are_the_decoded_whole(any_tokenizer: Tokenizer, text: str) -> None:
    ids = any_tokenizer.encode(text, special=False)
    pieces = Pieces(any_tokenizer)
    said = [*map(pieces.add, ids), pieces.rest()]
    assert "".join(said) == any_tokenizer.decode(ids, skip_special=True)
    assert "\ufffd" in text or all("\ufffd" not in piece for piece in said)


def test_half_a_character_waits_and_is_said_at_the_end(tokenizer: Tokenizer) -> None:
    first, *others = tokenizer.encode("€", special=False)
    pieces = Pieces(tokenizer)
    assert [pieces.add(first), *map(pieces.add, others)] == ["", "", "€"]
    assert [pieces.add(first), pieces.rest()] == ["", "\ufffd"]


def test_tokens_decoded_one_by_one_would_fail_that(any_tokenizer: Tokenizer) -> None:
    ids = any_tokenizer.encode("a a€", special=False)
    alone = "".join(any_tokenizer.decode([i], skip_special=True) for i in ids)
    assert alone != any_tokenizer.decode(ids, skip_special=True)


def test_answers_end_with_what_the_template_writes_behind_them(tmp_path: Path) -> None:
    model = resolve(str(MODEL), MODEL, offline=True)
    names = save_tokenizer(tmp_path)
    with Rendering(names, learn="answers", workers=1) as rendering:
        ends = stops(replace(model, stop_ids=(7,)), rendering)
    assert ends == (7, names.id_of("</s>"), names.id_of("<|im_end|>"))


def test_a_gguf_answers_by_its_own_template_or_continues(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    with LlamaServer(write_gguf(tmp_path / "tiny.gguf"), threads=1) as server:
        talk = [Message("user", "b"), Message("assistant", "a"), *HI]
        chatting = Answer(GgufSpeaker(server, template=True), talk, Wishes(max_tokens=12))
        as_messages = [{"role": m.role, "content": m.content} for m in talk]
        assert "".join(chatting) == server.complete(server.template_ids(as_messages), tokens=12).text
        raw = GgufSpeaker(server, template=False)
        continuing = Answer(raw, HI, Wishes(max_tokens=12))
        ids = server.tokenize("hi", special=True, parse=False)
        assert "".join(continuing) == server.complete(ids, tokens=12).text
        assert (continuing.ended, continuing.cut) == (Ended(12, False), "max_tokens")
        endless = Answer(raw, HI, Wishes(max_tokens=5000))
        assert len("".join(endless)) > 400
        assert endless.cut == "context"
        with pytest.raises(InputError, match="no chat template"):
            list(Answer(raw, talk, Wishes()))
