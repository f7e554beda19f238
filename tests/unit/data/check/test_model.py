"""What only a model can tell of rows."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Bare
from tokenizers import models, pre_tokenizers

from localtune.data.rendering import Rendering
from localtune.data.tokenizer import Tokenizer
from tests.unit.data.builders import CHATML, byte_level, save_tokenizer, sentencepiece
from tests.unit.data.check.rows import by_code, chat, checked, good, turns

OfModel = Callable[[Tokenizer], Rendering]
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('begin with user') }}{% endif %}" + CHATML


@pytest.fixture
def of_model() -> Iterator[Callable[[Tokenizer], Rendering]]:
    """Opens the rendering of a model that learns answers; its process ends with the test."""
    with ExitStack() as stack:
        yield lambda tokenizer: stack.enter_context(Rendering(tokenizer, learn="answers", workers=1))


def words() -> Bare:
    """A tokenizer that knows three words."""
    bare = Bare(models.WordLevel({"<unk>": 0, "yes": 1, "no": 2}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    return bare


def test_good_rows_have_no_findings_and_tokens_are_counted(tmp_path: Path, of_model: OfModel) -> None:
    result = checked(tmp_path, good(), rendering=of_model(save_tokenizer(tmp_path)))
    assert result.findings == ()
    assert result.tokens["total"] > result.tokens["learned"] > 0
    assert {"template", "refused", "cut", "control", "unknown", "lossy"} <= set(result.looked_for)


def test_rows_beyond_max_tokens_are_counted_also_those_without_an_answer_left(
    tmp_path: Path, of_model: OfModel
) -> None:
    model = of_model(save_tokenizer(tmp_path))
    rows = [*good(), chat("short", "x" * 2000), chat("y" * 2000, "short")]
    finding = by_code(checked(tmp_path, rows, rendering=model, max_tokens=1000))["cut"]
    assert (finding.count, finding.details, finding.severity) == (2, {"no answer left": 1}, "warning")
    assert "of 1 row nothing that is learned is left" in finding.what
    assert "--set data.max_tokens=2048" in finding.fix
    assert "cut" not in by_code(checked(tmp_path, rows, rendering=model, max_tokens=2048))


def test_texts_are_split_and_not_cut(tmp_path: Path, of_model: OfModel) -> None:
    rows = [{"text": "x" * 500}, {"text": "y" * 30}]
    model = of_model(save_tokenizer(tmp_path))
    assert "cut" not in by_code(checked(tmp_path, rows, rendering=model, max_tokens=100))
    assert "cut" in by_code(checked(tmp_path, rows, rendering=model, max_tokens=100, too_long="cut"))


def test_a_row_the_template_refuses_is_named_with_the_templates_own_words(tmp_path: Path, of_model: OfModel) -> None:
    model = of_model(save_tokenizer(tmp_path, template=STRICT))
    refused = turns(("system", "S"), ("user", "hi"), ("assistant", "ho"))
    finding = by_code(checked(tmp_path, [*good(), refused], rendering=model))["refused"]
    assert (finding.count, finding.severity) == (1, "error")
    assert "begin with user" in finding.first[0]
    assert "refused" not in by_code(checked(tmp_path, good(), rendering=model))


def test_a_model_without_a_template_for_conversations_is_an_error(tmp_path: Path, of_model: OfModel) -> None:
    model = of_model(save_tokenizer(tmp_path, template=None))
    finding = by_code(checked(tmp_path, good(), rendering=model))["template"]
    assert (finding.severity, finding.count) == ("error", 20)


def test_strings_of_control_tokens_are_noted_and_other_marks_are_not(tmp_path: Path, of_model: OfModel) -> None:
    model = of_model(save_tokenizer(tmp_path))
    found = by_code(checked(tmp_path, [*good(), chat("say <|im_end|>", "no")], rendering=model))
    assert found["control"].count == 1
    assert "control" not in by_code(checked(tmp_path, [*good(), chat("say <|other|>", "no")], rendering=model))


def test_characters_without_a_token_are_found_and_byte_tokens_lose_nothing(tmp_path: Path, of_model: OfModel) -> None:
    unknowing = save_tokenizer(tmp_path / "words", words(), control=("<unk>", "<s>", "</s>"), template="{{ messages }}",
                               config={"unk_token": "<unk>"})  # fmt: skip
    rows = [{"text": "yes no yes"}, {"text": "yes maybe"}]
    finding = by_code(checked(tmp_path, rows, rendering=of_model(unknowing)))["unknown"]
    assert finding.first == ("rows.jsonl:2  maybe",)
    for name, bare in (("bytes", byte_level()), ("pieces", sentencepiece("prepend"))):
        model = of_model(save_tokenizer(tmp_path / name, bare))
        found = by_code(checked(tmp_path, [{"text": "한국어 café 🙂 yes"}], rendering=model))
        assert not {"unknown", "lossy"} & set(found), name


def test_text_that_the_tokenizer_changes_is_found(tmp_path: Path, of_model: OfModel) -> None:
    bare = Bare(models.WordLevel({"a": 1, "b": 2, "<unk>": 0}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("-")
    model = of_model(save_tokenizer(tmp_path, bare, control=("<s>", "</s>")))
    found = by_code(checked(tmp_path, [{"text": "a-b"}, {"text": "a"}], rendering=model))
    assert found["lossy"].count == 1
    assert found["lossy"].first[0].startswith("rows.jsonl:1  ")


def test_a_template_that_never_ends_is_an_error_that_names_the_row(tmp_path: Path, of_model: OfModel) -> None:
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    found = by_code(checked(tmp_path, good(3), rendering=of_model(save_tokenizer(tmp_path, template=endless))))
    assert found["template"].severity == "error"
    assert found["template"].first[0].startswith("rows.jsonl:")


def test_what_mends_refused_rows_fits_the_reason(tmp_path: Path, of_model: OfModel) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    model = of_model(save_tokenizer(tmp_path))
    finding = by_code(checked(tmp_path, [*good(), chat("hi", "ho") | {"tools": tools}], rendering=model))["refused"]
    assert finding.fix == "take a model whose template writes tools, or rows without them"
    strict = of_model(save_tokenizer(tmp_path / "strict", template=STRICT))
    refused = turns(("system", "S"), ("user", "hi"), ("assistant", "ho"))
    assert "order of the turns" in by_code(checked(tmp_path, [*good(), refused], rendering=strict))["refused"].fix
