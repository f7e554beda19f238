"""What goes to others: the files of a product and no more, and nothing that is nobody else's business."""

import json
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from localtune.deliver.hub_folder import Sent, chosen, kind_of
from localtune.errors import InputError
from localtune.modelcard import Kind
from tests.command import MODEL

TOKENS = (
    "hf_" + "x1Y2" * 8, "ghp_" + "a" * 36, "AKIA" + "A1" * 8, "sk-proj-" + "a" * 24, "github_pat_" + "a1" * 12,
    "-----BEGIN OPENSSH PRIVATE KEY-----", "my own secret",
)  # fmt: skip


def adapter(folder: Path, base: str = "org/base") -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    save_file({"a": np.zeros(4, np.float32)}, folder / "adapter_model.safetensors")
    return folder


def fused(folder: Path) -> Path:
    shutil.copytree(MODEL, folder)
    (folder / "README.md").write_text("# hello")
    return folder


def ggufs(folder: Path, *names: str, text: str = "") -> Path:
    folder.mkdir()
    for name in names:
        writer = gguf.GGUFWriter(folder / name, "llama")
        writer.add_string("general.description", text)
        writer.add_tensor("x", np.zeros((2, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return folder


def names(sent: tuple[Sent, ...]) -> list[str]:
    return [one.name for one in sent]


def strewn(folder: Path) -> Path:
    """`folder` with what lies in a run."""
    for name in ("events.jsonl", "log.txt", "recipe.yaml", "resolved.yaml", "plan.json", "manifest.json", "proof.json",
                 "train.jsonl", "reference.npz", "optimizer.json", ".env", "pytorch_model.bin", "modeling_x.py",
                 "x.gguf.12.partial"):  # fmt: skip
        (folder / name).write_text("private")
    (folder / "data").mkdir()
    save_file({"rows": np.zeros(4, np.int32)}, folder / "data" / "train.safetensors")
    return folder


def test_only_files_of_such_a_product_are_taken(tmp_path: Path) -> None:
    one = strewn(adapter(tmp_path / "adapter"))
    assert names(chosen(one, "adapter", card="# card")) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    model = strewn(fused(tmp_path / "fused"))
    (model / "LICENSE.txt").write_text("free")
    shutil.copyfile(one / "adapter_model.safetensors", model / "adapter_model.safetensors")
    expected = sorted([path.name for path in MODEL.iterdir()] + ["LICENSE.txt", "README.md"])
    assert names(chosen(model, "fused")) == expected
    files = strewn(ggufs(tmp_path / "export", "A.gguf", "B.failed.gguf"))
    (files / "Modelfile").write_text("FROM ./A.gguf\n")
    assert names(chosen(files, "gguf", card="# card")) == ["A.gguf", "Modelfile", "README.md"]


def test_the_kind_of_a_folder_is_seen(tmp_path: Path) -> None:
    assert kind_of(adapter(tmp_path / "a")) == "adapter"
    assert kind_of(fused(tmp_path / "f")) == "fused"
    assert kind_of(ggufs(tmp_path / "g", "A.gguf")) == "gguf"
    (tmp_path / "e").mkdir()
    with pytest.raises(InputError, match=r"push\.folder"):
        kind_of(tmp_path / "e")


def test_a_product_that_lacks_a_part_is_not_sent(tmp_path: Path) -> None:
    model = fused(tmp_path / "fused")
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"push\.incomplete.*model-00002-of-00002\.safetensors is missing"):
        chosen(model, "fused")
    only_failed = ggufs(tmp_path / "export", "A.failed.gguf")
    with pytest.raises(InputError, match=r"push\.incomplete"):
        chosen(only_failed, "gguf")


@pytest.mark.parametrize("base", ["/home/jane/models/gpt2", "C:\\Users\\jane\\gpt2", "../models/gpt2"])
def test_a_path_as_the_bases_name_becomes_its_last_part(base: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", base)
    config = next(sent for sent in chosen(folder, "adapter") if sent.name == "adapter_config.json")
    assert isinstance(config.content, bytes)
    assert json.loads(config.content)["base_model_name_or_path"] == "gpt2"
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base


def test_a_path_in_the_hubs_cache_becomes_the_hub_id(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", "/home/jane/hub/models--org--gpt2/snapshots/c0ffee")
    config = next(sent for sent in chosen(folder, "adapter") if sent.name == "adapter_config.json")
    assert isinstance(config.content, bytes)
    assert json.loads(config.content)["base_model_name_or_path"] == "org/gpt2"


def test_a_models_configuration_names_no_path_either(tmp_path: Path) -> None:
    folder = fused(tmp_path / "fused")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/jane/models/gpt2"}), "utf-8")
    sent = next(sent for sent in chosen(folder, "fused") if sent.name == "config.json")
    assert isinstance(sent.content, bytes)
    assert json.loads(sent.content) == config | {"_name_or_path": "gpt2"}


@pytest.mark.parametrize("base", ["org/base", "org/base@v1"])
def test_a_hub_id_stays(base: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", base)
    config = next(sent for sent in chosen(folder, "adapter") if sent.name == "adapter_config.json")
    assert config.content == folder / "adapter_config.json"


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_anywhere_stops_it_all_and_is_not_shown(token: str, tmp_path: Path) -> None:
    planted = {
        "card": adapter(tmp_path / "a"),
        "config": fused(tmp_path / "f"),
        "header": fused(tmp_path / "h"),
        "gguf": ggufs(tmp_path / "g", "A.gguf", text=f"by {token}!"),
    }
    (planted["config"] / "chat_template.jinja").write_text(" " * (5 << 20) + f"{{# {token} #}}")
    save_file({"a": np.zeros(1, np.float32)}, planted["header"] / "model.safetensors", {"note": token})
    kinds: dict[str, Kind] = {"card": "adapter", "config": "fused", "header": "fused", "gguf": "gguf"}
    for where, folder in planted.items():
        card = f"see {token}" if where == "card" else None
        with pytest.raises(InputError, match=r"push\.private") as caught:
            chosen(folder, kinds[where], card=card, secrets=("my own secret",))
        assert token not in str(caught.value)


def test_the_home_folder_anywhere_stops_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/jane"))
    folder = adapter(tmp_path / "adapter")
    for text in ("made in /home/jane/work", r'"\/home\/jane\/x"'.replace("\\/", "/"), "C: /home/jane/.ssh"):
        with pytest.raises(InputError, match=r"push\.private"):
            chosen(folder, "adapter", card=text)
    for harmless in ("/home/janet/work", "/home/jane", "at home jane"):
        assert chosen(folder, "adapter", card=harmless)


def test_a_value_of_weights_is_never_taken_for_a_text(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter")
    save_file({"a": np.frombuffer(TOKENS[0].encode() + b"x", np.uint8)}, folder / "adapter_model.safetensors")
    assert len(chosen(folder, "adapter")) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("kind", ["adapter", "fused"])
def test_a_link_to_a_file_of_this_machine_is_not_sent(tmp_path: Path, kind: Kind) -> None:
    folder = adapter(tmp_path / "a") if kind == "adapter" else fused(tmp_path / "a")
    (tmp_path / "secret").write_text("secret")
    (folder / "log.txt").symlink_to(tmp_path / "secret")  # which is not sent anyway
    assert chosen(folder, kind)
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=r"model\.link"):
        chosen(folder, kind)
