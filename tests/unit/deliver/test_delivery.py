"""What goes beside exported files and to other programs: names that suit them, and what a Modelfile leaves unsaid."""

from pathlib import Path

import pytest

from localtune.deliver.lm_studio import place
from localtune.deliver.ollama import check_name
from localtune.errors import InputError
from localtune.events import Warn
from localtune.export.identity import Identity, file_name
from localtune.products.delivery import _called, check_targets, describe
from localtune.products.source import Source
from tests.material import material
from tests.unit.deliver.models import quickstart, with_template

BOTH = ("ollama", "lm-studio")


@pytest.mark.parametrize(
    ("name", "code"), [("me/chatty:q8", "lm-studio.name"), ("हिन्दी", "ollama.name"), ("a b", "ollama.name")]
)
def test_a_name_that_suits_one_program_and_not_the_other_is_told_at_the_beginning(name: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        check_targets(BOTH, name)
    assert [problem.code for problem in caught.value.problems] == [code]


NAMES = ("हिन्दी में बातचीत", "हिन्दी " * 20, "x" * 300, "Ünïcode né", "...", "con", "")


@pytest.mark.parametrize("finetune", NAMES)
def test_a_name_of_ours_suits_every_program(finetune: str, tmp_path: Path) -> None:
    identity = Identity("b" * 80, "0.6B", finetune, "v1.0")
    gguf = tmp_path / file_name(identity, "Q4_K_M")
    gguf.write_bytes(b"GGUF")
    (tmp_path / ".lmstudio").mkdir()
    assert place(gguf, home=tmp_path).samefile(gguf)
    model, tokenizer = quickstart()
    check_name(_called(Source(model, tokenizer, None, identity, tmp_path)))


def warned(folder: Path, template: str) -> list[str]:
    """Codes of what is said while the Modelfile of a file with this template is written."""
    model, _ = quickstart()
    identity = Identity("Tiny", "1M", "", "v1.0")
    source = Source(model, with_template(folder / "model", template), None, identity, folder)
    return [event.code for event in describe(source, [folder / "Tiny-1M.gguf"], None) if isinstance(event, Warn)]


def test_a_template_that_ollama_cannot_be_given_is_told(tmp_path: Path) -> None:
    template = (material("chat-templates") / "Qwen-Qwen3-0.6B.jinja").read_text("utf-8")
    assert warned(tmp_path, template) == ["deliver.template"]
    assert "TEMPLATE" not in (tmp_path / "Modelfile").read_text("utf-8")


def test_one_that_it_can_be_given_is_not(tmp_path: Path) -> None:
    chatml = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    assert warned(tmp_path, chatml) == []
    assert "TEMPLATE" in (tmp_path / "Modelfile").read_text("utf-8")
