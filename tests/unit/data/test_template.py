import datetime
import json

import pytest

from localtune.data.template import ChatTemplate, Refused
from localtune.errors import InputError
from tests.material import material
from tests.unit.data.builders import CHATML

USER = [{"role": "user", "content": "hi"}]


def rendered(source: str, **tokens: str) -> str:
    return ChatTemplate(source, tokens, datetime.date(2026, 1, 15)).render(USER).text


def test_the_generation_prompt_is_added_on_request() -> None:
    template = ChatTemplate(CHATML, {})
    assert template.render(USER).text == "<|im_start|>user\nhi<|im_end|>\n"
    assert template.render(USER, prompt=True).text.endswith("<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ eos_token }}{{ pad_token }}", "<s></s>"),
        ("{% if true %}\n  x\n  {% endif %}\ny", "  x\ny"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{{ strftime_now('%d %b %Y') }}", "15 Jan 2026"),
        ("{{ tools is none }} {{ documents is none }}", "True True"),
        ("{{ '<&>' }}", "<&>"),
    ],
)
def test_it_renders_as_transformers_does(source: str, text: str) -> None:
    assert rendered(source, bos_token="<s>", eos_token="</s>") == text


def test_generation_tags_record_their_characters() -> None:
    source = "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content }}!{% endgeneration %};{% endfor %}"
    messages = [{"role": "a", "content": "one"}, {"role": "b", "content": "둘"}]
    out = ChatTemplate(source, {}).render(messages)
    assert out.text == "a:one!;b:둘!;"
    assert [out.text[start:end] for start, end in out.marks] == ["one!", "둘!"]


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no system') }}",
        "{{ messages[5].content + 'x' }}",
        "{{ ''.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ 1 / 0 }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_a_template_that_fails_or_reaches_out_is_refused(source: str) -> None:
    with pytest.raises(Refused) as caught:
        rendered(source)
    assert str(caught.value)


def test_a_template_that_is_not_valid_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"template\.syntax.* line 2"):
        ChatTemplate("a\n{% if %}", {})


@pytest.mark.material
def test_all_reference_renderings_are_equal() -> None:
    folder = material("chat-templates")
    conversations = json.loads((folder / "conversations.json").read_text("utf-8"))
    rows = [json.loads(line) for line in (folder / "vectors.jsonl").read_text("utf-8").split("\n") if line]
    tokens, today = {"bos_token": "<s>", "eos_token": "</s>"}, datetime.date(2026, 1, 15)
    sources = {path.name: path.read_text("utf-8") for path in folder.glob("*.jinja")}
    templates = {name: ChatTemplate(source, tokens, today) for name, source in sources.items()}
    for row in rows:
        given = conversations[row["conversation"]]
        try:
            out = templates[row["template"]].render(
                given["messages"], prompt=row["add_generation_prompt"], tools=given.get("tools")
            )
        except Refused:
            assert "error" in row, row
        else:
            assert out.text == row["text"]
    assert len(rows) == 312
