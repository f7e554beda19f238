"""What a file calls itself."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.export.identity import Identity, file_name, harmless, identify
from localtune.export.pretokenizers import QWEN2
from localtune.model import ModelFiles
from localtune.model.tensors import TensorInfo
from tests.unit.export.served import Served
from tests.unit.export.tiny import byte_level, exported, llama, opened, save_tokenizer, split_by


def of_size(model: ModelFiles, parameters: int) -> ModelFiles:
    return replace(model, tensors=(TensorInfo("w", (parameters,), "F32", 4 * parameters, "model.safetensors"),))


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    tokenizer = byte_level(split_by(QWEN2), size=300)
    save_tokenizer(tmp_path / "base", tokenizer)
    llama(tmp_path / "base", 300, eos=2)
    return opened(tmp_path / "base")[0]


def named(model: ModelFiles, base: str | None, revision: str | None = None, finetune: str = "my-task") -> Identity:
    return identify(model, finetune=finetune, base=base, revision=revision, lineage={"recipe": "a1b2"})


def test_names_come_from_the_hub_id(model: ModelFiles) -> None:
    identity = named(of_size(model, 596_000_000), "Qwen/Qwen3-0.6B", "c0ffee")
    assert file_name(identity, "Q8_0") == "Qwen3-0.6B-my-task-v1.0-Q8_0.gguf"
    keys = identity.metadata()
    assert keys["general.name"] == "Qwen3 0.6B my task"
    assert keys["general.base_model.0.organization"] == "Qwen"
    assert keys["general.base_model.0.repo_url"] == "https://huggingface.co/Qwen/Qwen3-0.6B"
    assert keys["general.base_model.0.version"] == "c0ffee"
    assert keys["localtune.recipe"] == "a1b2"


def test_a_size_the_name_lacks_is_counted(model: ModelFiles) -> None:
    identity = named(of_size(model, 260_032), "/home/somebody/models/stories260K")
    assert (identity.basename, identity.size_label) == ("stories260K", "260K")
    assert not any("somebody" in str(value) for value in identity.metadata().values())


def test_a_relative_folder_is_no_hub_id(model: ModelFiles) -> None:
    assert "general.base_model.0.repo_url" not in named(model, "recipes/model").metadata()


def test_licence_and_languages_come_from_the_readme(model: ModelFiles) -> None:
    head = "license: apache-2.0\nlanguage:\n- en\n- ko\ntags: [chat, text-generation]\nother: {a: 1}\n"
    card = f"---\n{head}---\n# Hello\nlicense: no\n"
    (model.folder / "README.md").write_text(card, "utf-8")
    identity = named(model, None)
    assert (identity.license, identity.languages) == ("apache-2.0", ("en", "ko"))
    assert identity.tags == ("chat", "text-generation")


@given(content=st.binary(max_size=300))
def test_no_readme_stops_an_export(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    from localtune.export.identity import _readme

    path = tmp_path_factory.mktemp("card") / "README.md"
    path.write_bytes(b"---\n" + content)
    assert all(isinstance(value, str) for values in _readme(path).values() for value in values)


def test_sampling_is_what_the_model_states(model: ModelFiles) -> None:
    path = model.folder / "generation_config.json"
    path.write_text('{"do_sample": true, "top_k": 20, "top_p": 0.8, "temperature": 0.7, "repetition_penalty": "x"}')
    assert named(model, None).sampling == {"top_k": 20, "top_p": 0.8, "temp": 0.7}
    path.write_text('{"do_sample": false, "top_k": 20}')
    assert named(model, None).sampling == {"temp": 0.0}
    path.write_text("{}")
    assert named(model, None).sampling == {}


@given(st.text(max_size=120), st.text(max_size=120))
def test_file_names_are_plain(basename: str, finetune: str) -> None:
    name = file_name(Identity(basename[:80], "1B", finetune, "v1.0"), "F16")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.gguf|[_][A-Za-z0-9._-]{0,199}\.gguf", name)


def test_names_that_steer_llama_cpp_are_written_apart() -> None:
    assert harmless("My Phi-3 and PHI3 and modern-bert") == "My Phi 3 and PHI 3 and modern bert"


def test_a_project_called_phi3_loads_and_reads_text_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "phi3-mini"
    tokenizer = byte_level(split_by(QWEN2), size=300)
    save_tokenizer(folder, tokenizer)
    llama(folder, 300, eos=2)
    text = "<|im_end|>  two blanks"
    with Served(exported(folder)) as served:
        assert served.ids(text) == tokenizer.encode(text).ids
    monkeypatch.setattr("localtune.export.identity.harmless", lambda name: name)
    with pytest.raises(RuntimeError):
        Served(exported(folder))
