"""Which adapters count: chosen by name, number or weight; a mistake changes nothing."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.chat.adapters import Adapters, read_adapters
from localtune.chat.answer import Answer, Wishes
from localtune.chat.opening import open_gguf
from localtune.data.conversations import Message
from localtune.errors import InputError
from tests.unit.chat.tiny_gguf import write_gguf, write_lora

BASE = Path("base.gguf")
HI = [Message("user", "hello b")]


def three() -> Adapters:
    return Adapters((Path("formal.gguf"), Path("brief.gguf"), Path("a=1,off.gguf")))


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("brief", [0, 1, 0]),
        ("2", [0, 1, 0]),
        ("off", [0, 0, 0]),
        ("formal=0.7,brief=0.3", [0.7, 0.3, 0]),
        (" 1 = 0.5 , brief", [0.5, 1, 0]),
        ("formal=-1", [-1, 0, 0]),
        ("a=1,off", [0, 0, 1]),
        ("3=2", [0, 0, 2]),
    ],
)
def test_those_count_that_are_named_and_no_others(text: str, scales: list[float]) -> None:
    adapters = three()
    assert adapters.scales == [1, 0, 0]
    adapters.choose(text)
    assert adapters.scales == scales


@pytest.mark.parametrize("text", ["formall", "0", "4", "formal=x", "formal=nan", "formal=1e30", "formal,,brief", "=1"])
def test_a_mistake_is_answered_with_what_there_is_and_changes_nothing(text: str) -> None:
    adapters = three()
    with pytest.raises(InputError) as caught:
        adapters.choose(text)
    assert caught.value.problems[0].fix.startswith("/lora formal")
    assert adapters.scales == [1, 0, 0]


@given(text=st.text() | st.text("formalbie=,.123 off"))
def test_whatever_is_typed_the_scales_stay_in_range(text: str) -> None:
    adapters = three()
    try:
        adapters.choose(text)
    except InputError:
        assert adapters.scales == [1, 0, 0]
    assert all(abs(scale) <= 100 for scale in adapters.scales)


def test_the_list_says_how_much_each_counts() -> None:
    adapters = three()
    adapters.choose("formal,brief=0.25")
    assert adapters.lines() == ["1  formal  on", "2  brief  x 0.25", "3  a=1,off  off"]


def refused(*paths: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_adapters([str(path) for path in paths], BASE)
    assert caught.value.problems[0].fix
    return str(caught.value)


def test_what_is_no_adapter_is_refused_with_the_way_out(tmp_path: Path) -> None:
    good = write_lora(tmp_path / "good.gguf")
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text("{}")
    (tmp_path / "notes.gguf").write_text("eggs, milk")
    (tmp_path / "half.gguf").write_bytes(good.read_bytes()[:-100])
    (tmp_path / "other").mkdir()
    twin = write_lora(tmp_path / "other" / "good.gguf")
    assert "localtune export RUN --adapter" in refused(tmp_path / "peft")
    assert "no such adapter file" in refused(tmp_path / "none.gguf")
    assert "gguf.foreign" in refused(tmp_path / "notes.gguf")
    assert "gguf.truncated" in refused(tmp_path / "half.gguf")
    assert "is a model, not an adapter" in refused(write_gguf(tmp_path / "model.gguf"))
    assert "damaged" in refused(write_lora(tmp_path / "nan.gguf", alpha=float("nan")))
    assert "of a kind" in refused(write_lora(tmp_path / "x.gguf", kind="x"))
    assert "two adapters are called good" in refused(good, twin)
    assert "no such adapter file" in refused(Path("~nobody-of-that-name/a.gguf"))
    assert read_adapters([], BASE) is None


def test_an_adapter_of_another_model_is_refused_where_both_files_say_so(tmp_path: Path) -> None:
    base = write_gguf(tmp_path / "base.gguf", base="a")
    right, wrong = (write_lora(tmp_path / f"of {name}.gguf", base=name) for name in "ab")
    silent, unsaid = write_lora(tmp_path / "silent.gguf"), write_gguf(tmp_path / "unsaid.gguf")
    found = read_adapters([str(right)], base)
    assert found is not None
    assert found.notes == ()
    with pytest.raises(InputError, match=r"of b\.gguf.*was trained on another model than base\.gguf") as caught:
        open_gguf(base, [str(right), str(wrong)])
    assert caught.value.problems[0].fix == "name a GGUF of model b"
    for model, adapter in ((base, silent), (unsaid, right), (unsaid, silent)):
        found = read_adapters([str(adapter)], model)
        assert found is not None
        (note,) = found.notes
        assert f"whether {adapter.name} was trained on {model.name}" in note


def test_tuned_base_and_wishes_each_have_their_scales(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    base = write_gguf(tmp_path / "base.gguf")
    loras = [str(write_lora(tmp_path / f"{name}.gguf", i)) for i, name in enumerate("ab")]

    def alone(*files: str) -> str:
        with open_gguf(base, files) as chat:
            return "".join(Answer(chat.speaker(chat.who[0]), HI, Wishes(max_tokens=12)))

    plain, a, b = alone(), alone(loras[0]), alone(loras[1])
    assert len({plain, a, b}) == 3
    with open_gguf(base, loras) as chat:
        assert chat.who == ("tuned", "base")
        assert chat.adapters is not None

        def said(who: str, lora: dict[str, float] | None = None) -> str:
            return "".join(Answer(chat.speaker(who), HI, Wishes(max_tokens=12, lora=lora)))

        assert [said("tuned"), said("base"), said("tuned", {"b": 1.0}), said("tuned", {})] == [a, plain, b, plain]
        chat.adapters.choose("b")
        assert [said("tuned"), said("base")] == [b, plain]
        with pytest.raises(InputError, match="no adapter is called 'c'"):
            said("tuned", {"c": 1.0})


def test_rated_answers_go_beside_the_file_or_into_the_run_it_came_from(tmp_path: Path) -> None:
    inside = tmp_path / "run" / "export"
    inside.mkdir(parents=True)
    (tmp_path / "run" / "plan.json").write_text("{}")
    for folder, beside in ((tmp_path, tmp_path), (inside, tmp_path / "run")):
        with open_gguf(write_gguf(folder / "m.gguf")) as chat:
            assert chat.feedback == beside / "feedback"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_can_be_written_they_go_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    path = write_gguf(tmp_path / "locked" / "m.gguf")
    (tmp_path / "locked").chmod(0o500)
    monkeypatch.chdir(tmp_path)
    with open_gguf(path) as chat:
        assert chat.feedback == tmp_path / "feedback"
