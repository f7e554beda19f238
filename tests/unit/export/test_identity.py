"""What a file calls itself."""

from dataclasses import replace
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune import __version__
from localtune.errors import InputError
from localtune.export.identity import DataSet, Identity, file_name, harmless, identify
from localtune.export.keys import add_key
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


def test_an_adapter_says_so_in_its_name(model: ModelFiles) -> None:
    identity = named(of_size(model, 596_000_000), "Qwen/Qwen3-0.6B")
    assert file_name(identity, "F16", "LoRA") == "Qwen3-0.6B-my-task-v1.0-F16-LoRA.gguf"


def test_what_quantised_it_is_named_only_where_it_is_quantised(model: ModelFiles) -> None:
    identity = named(model, "org/base")
    assert identity.metadata(quantized=True)["general.quantized_by"] == f"localtune {__version__}"
    assert "general.quantized_by" not in identity.metadata()


def test_data_sets_are_named_without_paths_or_rows(model: ModelFiles) -> None:
    data = (
        DataSet("/home/jane/secret/train.jsonl", 800),
        DataSet("C:\\Users\\jane\\more.csv"),
        DataSet("org/chats", 12, True, "c0ffee"),
    )
    identity = identify(model, finetune="t", base="org/base", revision=None, lineage={}, datasets=data)
    keys = identity.metadata()
    found = {key: value for key, value in keys.items() if "dataset" in key}
    assert found == {
        "general.dataset.count": 3,
        "general.dataset.0.name": "train.jsonl",
        "general.dataset.0.description": "800 rows",
        "general.dataset.1.name": "more.csv",
        "general.dataset.2.name": "chats",
        "general.dataset.2.organization": "org",
        "general.dataset.2.version": "c0ffee",
        "general.dataset.2.description": "12 rows",
        "general.dataset.2.repo_url": "https://huggingface.co/datasets/org/chats",
        "general.datasets": ["org/chats"],
    }
    assert not any("jane" in str(value) for value in keys.values())
    assert not any("dataset" in key for key in named(model, None).metadata())


def test_every_key_is_read_back_by_gguf(model: ModelFiles, tmp_path: Path) -> None:
    data = (DataSet("train.jsonl", 800), DataSet("org/chats", None, True, "c0ffee"))
    identity = identify(model, finetune="t", base="org/base", revision="1", lineage={"version": "1"}, datasets=data)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    wanted = identity.metadata(quantized=True)
    for key, value in wanted.items():
        add_key(writer, key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    assert {key: fields[key].contents() for key in wanted} == wanted
    known = {key.format(id=n) for group in vars(gguf.Keys.General).values() if isinstance(group, str)
             for key in [group] for n in (0, 1)}  # fmt: skip
    assert {key for key in wanted if key.startswith("general.") and key not in known} <= {"general.datasets"}


def test_a_size_the_name_lacks_is_counted(model: ModelFiles) -> None:
    identity = named(of_size(model, 260_032), "/home/somebody/models/stories260K")
    assert (identity.basename, identity.size_label) == ("stories260K", "260K")
    assert not any("somebody" in str(value) for value in identity.metadata().values())


def test_a_relative_folder_is_no_hub_id(model: ModelFiles) -> None:
    there = replace(model, folder=Path("/somewhere/recipes/chatty"))
    keys = named(there, "recipes/chatty").metadata()
    assert keys["general.base_model.0.name"] == "chatty"
    assert "general.base_model.0.repo_url" not in keys
    assert "general.base_model.0.repo_url" in named(model, "recipes/chatty").metadata()


def as_it_is(model: ModelFiles, name: str, parameters: int) -> Identity:
    given = replace(of_size(model, parameters), name=name)
    return identify(given, finetune="", base=None, revision=None, lineage={})


@pytest.mark.parametrize(
    ("name", "parameters", "file"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_000_000, "Qwen2.5-0.5B-Instruct-v1.0-Q8_0.gguf"),
        ("Qwen/Qwen2.5-0.5B-Instruct@refs/pr/7", 494_000_000, "Qwen2.5-0.5B-Instruct-v1.0-Q8_0.gguf"),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7_250_000_000, "Mistral-7B-Instruct-v0.3-Q8_0.gguf"),
        ("org/model", 494_000_000, "model-494M-v1.0-Q8_0.gguf"),
        ("/home/somebody/chatty/fused", 494_000_000, "chatty-494M-v1.0-Q8_0.gguf"),
    ],
)
def test_a_model_as_it_is_keeps_its_name(model: ModelFiles, name: str, parameters: int, file: str) -> None:
    identity = as_it_is(model, name, parameters)
    assert file_name(identity, "Q8_0") == file
    keys = identity.metadata()
    assert not any(key.startswith("general.base_model") for key in keys)
    assert not any("somebody" in str(value) or "refs" in str(value) for value in keys.values())


def test_a_model_as_it_is_says_whose_it_is(model: ModelFiles) -> None:
    keys = as_it_is(model, "mistralai/Mistral-7B-Instruct-v0.3", 7_250_000_000).metadata()
    assert keys["general.organization"] == "mistralai"
    assert keys["general.source.repo_url"] == "https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.3"
    assert "general.organization" not in as_it_is(model, "/models/jane/chatty", 1).metadata()
    assert "general.organization" not in named(model, "org/base").metadata()


def test_a_version_of_its_own_is_shown(model: ModelFiles) -> None:
    keys = as_it_is(model, "mistralai/Mistral-7B-Instruct-v0.3", 7_250_000_000).metadata()
    assert keys["general.name"] == "Mistral 7B Instruct v0.3"
    assert (keys["general.finetune"], keys["general.version"]) == ("Instruct", "v0.3")


SNAPSHOT = "/cache/hub/models--Qwen--Qwen3-0.6B/snapshots/" + "c0ffee00" * 5


def test_a_snapshot_in_the_hubs_cache_is_called_as_on_the_hub(model: ModelFiles) -> None:
    identity = named(of_size(model, 596_000_000), SNAPSHOT)
    assert file_name(identity, "Q8_0") == "Qwen3-0.6B-my-task-v1.0-Q8_0.gguf"
    assert identity.metadata()["general.base_model.0.repo_url"] == "https://huggingface.co/Qwen/Qwen3-0.6B"
    as_it_is = named(replace(model, name=SNAPSHOT), None, finetune="")
    assert (as_it_is.basename, as_it_is.source) == ("Qwen3", "Qwen/Qwen3-0.6B")


def test_a_folder_named_in_bytes_that_are_no_text_can_be_written(model: ModelFiles) -> None:
    keys = named(model, "/models/m\udcff").metadata()
    assert keys["general.base_model.0.name"] == "m?"


def test_licence_and_languages_come_from_the_readme(model: ModelFiles) -> None:
    head = "license: apache-2.0\nlanguage:\n- en\n- ko\ntags: [chat, text-generation]\nother: {a: 1}\n"
    card = f"---\n{head}---\n# Hello\nlicense: no\n"
    (model.folder / "README.md").write_text(card, "utf-8")
    identity = named(model, None)
    assert (identity.license, identity.languages) == ("apache-2.0", ("en", "ko"))
    assert identity.tags == ("chat", "text-generation")


def test_a_licence_of_its_own_is_named(model: ModelFiles) -> None:
    card = '\ufeff---\nlicense: "other" # see below\nlicense_name: llama3\nlicense_link: LICENSE\n---\n'
    (model.folder / "README.md").write_text(card, "utf-8")
    keys = named(model, None).metadata()
    assert keys["general.license"] == "other"
    assert (keys["general.license.name"], keys["general.license.link"]) == ("llama3", "LICENSE")


def test_sampling_is_what_the_model_states(model: ModelFiles) -> None:
    path = model.folder / "generation_config.json"
    path.write_text('{"do_sample": true, "top_k": 20, "top_p": 0.8, "temperature": 0.7, "repetition_penalty": "x"}')
    assert named(model, None).sampling == {"top_k": 20, "top_p": 0.8, "temp": 0.7}
    path.write_text('{"do_sample": false, "top_k": 20}')
    assert named(model, None).sampling == {"temp": 0.0}
    path.write_text("{}")
    assert named(model, None).sampling == {}


@given(st.text(max_size=120), st.text(max_size=120), st.text(max_size=30))
def test_file_names_are_plain(basename: str, finetune: str, version: str) -> None:
    name = file_name(Identity(basename[:80], "1B", finetune, version), "F16")
    assert len(name.encode()) <= 200
    assert name.endswith("F16.gguf")
    assert not set(name) & set('<>:"/\\|?* ')
    assert name[0] not in ".-"
    assert name.isprintable()


@pytest.mark.parametrize("device", ["CON", "nul", "com1", "COM¹", "aux"])
def test_no_file_is_a_device_of_windows(device: str) -> None:
    assert file_name(Identity(f"{device}.x", "1B", "", "v1.0"), "F16").startswith("model-")
    assert file_name(Identity(device, "1B", "", "v1.0"), "F16") == f"{device}-1B-v1.0-F16.gguf"


def test_names_of_any_script_stay_apart(model: ModelFiles) -> None:
    tasks = ("내 모델", "네 모델", "日本語", "日本", "हिन्दी", "हिन्द", "Été", "E\u0301te\u0301")
    names = {file_name(named(model, None, finetune=task), "F16") for task in tasks}
    assert len(names) == len(tasks) - 1  # an accent is the same however it is written
    assert any("내-모델" in name for name in names)


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
    with pytest.raises(InputError, match="vocabulary"):
        Served(exported(folder))
