"""Nothing that a row says is left out by a template without a word."""

from pathlib import Path

import pytest

from localtune.data.conversations import Pair
from localtune.data.turns import Learn
from tests.unit.data.builders import CHATML, PLACE, conversation, save_tokenizer, segments, the_problem

NO_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
NO_THOUGHTS = CHATML.replace("m.content", "m.content.split('</think>')[-1]").replace(
    "m['content']", "m['content'].split('</think>')[-1]"
)
WITH_SYSTEM = conversation(("system", "Be brief."), ("user", "a"), ("assistant", "b"))
THOUGHT = conversation(("user", "a"), ("assistant", "<think>hm</think>b"))


@pytest.mark.parametrize("learn", ["answers", "all", "last"])
def test_a_system_turn_that_is_not_written_is_refused(learn: Learn, tmp_path: Path) -> None:
    assert NO_SYSTEM != CHATML
    problem = the_problem(save_tokenizer(tmp_path, template=NO_SYSTEM), WITH_SYSTEM, learn)
    assert problem.code == "template.lost"
    assert "turn 1 (system)" in problem.what
    (tmp_path / "whole").mkdir()
    assert segments(save_tokenizer(tmp_path / "whole"), WITH_SYSTEM, learn)


def test_a_system_text_of_a_pair_is_not_lost_either(tmp_path: Path) -> None:
    pair = Pair(PLACE, "a", "b", "Be brief.")
    assert the_problem(save_tokenizer(tmp_path, template=NO_SYSTEM), pair).code == "template.lost"


def test_a_turn_that_is_written_otherwise_is_no_loss(tmp_path: Path) -> None:
    shouting = CHATML.replace("m.content", "m.content | upper").replace("m['content']", "m['content'] | upper")
    assert shouting != CHATML
    tokenizer = save_tokenizer(tmp_path, template=shouting)
    assert segments(tokenizer, conversation(("user", "abc"), ("assistant", "B")))


def test_thoughts_in_an_answer_are_not_left_out_when_all_is_learned(tmp_path: Path) -> None:
    assert NO_THOUGHTS != CHATML
    problem = the_problem(save_tokenizer(tmp_path, template=NO_THOUGHTS), THOUGHT, "all")
    assert (problem.code, "turn 2" in problem.what) == ("template.lost", True)
    (tmp_path / "whole").mkdir()
    assert segments(save_tokenizer(tmp_path / "whole"), THOUGHT, "all")


def test_held_text_is_found_again_where_a_template_escapes_it(tmp_path: Path) -> None:
    escaping = CHATML.replace("m.content", "m.content | tojson(ensure_ascii=true)").replace(
        "m['content']", "m['content'] | tojson(ensure_ascii=true)"
    )
    tokenizer = save_tokenizer(tmp_path, template=escaping)
    talk = conversation(("user", "what is <|im_end|>?"), ("assistant", "b"))
    (only,) = segments(tokenizer, talk, "all")
    text = tokenizer.decode(only.tokens.tolist(), skip_special=False)
    assert "what is <|im_end|>?" in text
    assert "udbff" not in text
