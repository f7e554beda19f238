"""`localtune push` against a stand-in of the hub: private, listed, byte for byte, and nothing unasked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from localtune.adapter import Lora, peft_config
from localtune.cli.options import read_recipe
from localtune.deliver.push import ready
from localtune.errors import InputError
from localtune.launch import create_run, make_ready
from localtune.runs.files import new_folder, sha256, write_json
from localtune.runs.folder import Run
from tests.command import Command, Result, short
from tests.unit.deliver.hub import TOKEN, Hub, running
from tests.unit.deliver.test_hub_folder import adapter, fused, ggufs


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as there:
        yield there


def command(runs: Path, hub: Hub, home: Path, **changes: str) -> Command:
    environment = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home / "hf"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return Command(runs, tuple((environment | changes).items()))


def push(tmp_path: Path, hub: Hub, *arguments: str | Path, **changes: str) -> Result:
    (tmp_path / "runs").mkdir(exist_ok=True)
    return command(tmp_path / "runs", hub, tmp_path, **changes)("push", *arguments, "--to", "org/name")


def code_of(done: Result) -> tuple[int, str]:
    errors = [line for line in done.err.splitlines() if line.startswith("error[")]
    assert "Traceback" not in done.err
    assert TOKEN not in done.out + done.err
    return done.code, errors[0].partition("]")[0].removeprefix("error[") if errors else ""


def test_an_adapter_arrives_byte_for_byte_in_a_private_repository(tmp_path: Path, hub: Hub) -> None:
    folder = adapter(tmp_path / "adapter")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# mine\n")
    (folder / "train.jsonl").write_text("private rows")
    done = push(tmp_path, hub, folder, "--yes")
    assert done.code == 0, done.err
    assert hub.private is True
    expected = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "train.jsonl"}
    assert hub.files == expected
    assert b"private rows" not in hub.everything
    assert "adapter_model.safetensors" in done.err
    assert done.out.startswith(f"{hub.address}/org/name  private")
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_a_fused_model_and_gguf_files_arrive_and_are_told_as_json(tmp_path: Path, hub: Hub) -> None:
    model = fused(tmp_path / "fused")
    done = push(tmp_path, hub, model, "--yes", "--json", "--public")
    assert done.code == 0, done.err
    assert hub.private is False
    assert hub.files == {path.name: path.read_bytes() for path in model.iterdir()}
    told = json.loads(done.out)
    assert {entry["name"]: entry["size"] for entry in told["files"]} == {
        name: len(content) for name, content in hub.files.items()
    }
    files = ggufs(tmp_path / "export", "A.gguf", "B.failed.gguf")
    hub.files.clear()
    assert push(tmp_path, hub, files, "--yes", "--public").code == 0
    assert list(hub.files) == ["A.gguf"]
    assert hub.files["A.gguf"] == (files / "A.gguf").read_bytes()


def test_nothing_is_sent_unasked(tmp_path: Path, hub: Hub) -> None:
    folder = adapter(tmp_path / "adapter")
    done = push(tmp_path, hub, folder)
    assert code_of(done) == (2, "push.unasked")
    assert f"localtune push {folder} --to org/name --yes" in done.err
    assert "adapter_model.safetensors" in done.err
    assert hub.asked == []


def test_a_repository_that_everybody_reads_is_not_taken_for_a_private_one(tmp_path: Path, hub: Hub) -> None:
    hub.private = False
    folder = adapter(tmp_path / "adapter")
    assert code_of(push(tmp_path, hub, folder, "--yes")) == (2, "push.public")
    assert hub.files == {}
    assert not any("preupload" in asked or "upload/" in asked for asked in hub.asked)
    assert push(tmp_path, hub, folder, "--yes", "--public").code == 0
    assert len(hub.files) == 2


def test_an_existing_private_repository_gets_another_commit(tmp_path: Path, hub: Hub) -> None:
    hub.private = True
    assert push(tmp_path, hub, adapter(tmp_path / "adapter"), "--yes").code == 0
    assert len(hub.files) == 2


SCRIPT = """
import sys, urllib.request
from localtune.deliver.hub_folder import Sent
from localtune.deliver.push import push
from localtune.errors import LocaltuneError
for order in sys.argv[2:]:
    urllib.request.urlopen(sys.argv[1] + "/refuse/" + order).read()
    try:
        push([Sent("a.safetensors", b"abc")], "org/name", "a token")
    except LocaltuneError as error:
        print(type(error).__name__, error.problems[0].code)
"""
"""One process for many refusals: huggingface_hub takes its time to import."""


def test_each_refusal_of_the_hub_is_one_clear_line(tmp_path: Path, hub: Hub) -> None:
    expected = {
        "401.making": "push.token",
        "403.making": "push.denied",
        "429.making": "push.busy",
        "418.making": "push.hub",
        "403.storing": "push.denied",
        "404.committing": "push.missing",
        "409.committing": "push.conflict",
        "412.committing": "push.conflict",
    }
    environment = dict(command(tmp_path, hub, tmp_path).environment)
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, hub.address, *expected],
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == [f"MachineError {code}" for code in expected.values()]
    assert hub.files == {}


def test_a_refusal_in_the_middle_of_sending_has_a_line_of_its_own(tmp_path: Path, hub: Hub) -> None:
    hub.refuses = {"PUT /upload/": 403}
    assert code_of(push(tmp_path, hub, adapter(tmp_path / "adapter"), "--yes")) == (3, "push.denied")
    assert hub.files == {}


def test_what_this_machine_lacks_is_told_before_anything_is_sent(tmp_path: Path, hub: Hub) -> None:
    folder = adapter(tmp_path / "adapter")
    assert code_of(push(tmp_path, hub, folder, "--yes", HF_TOKEN="")) == (3, "push.login")
    assert code_of(push(tmp_path, hub, folder, "--yes", HF_HUB_OFFLINE="1")) == (3, "push.offline")
    assert code_of(push(tmp_path, hub, folder, "--yes", HF_ENDPOINT="http://127.0.0.1:9")) == (3, "push.network")
    assert hub.asked == []


@pytest.mark.parametrize("name", ["name", "a/b/c", "../x", "a b/c", "-a/b", "a/b--c"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"push\.name"):
        ready(name)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, hub: Hub) -> None:
    folder = adapter(tmp_path / "adapter")
    assert code_of(push(tmp_path, hub, folder, "--what", "gguf", "--yes")) == (2, "push.folder")
    (folder / "README.md").write_text(f"my token is {TOKEN}")
    assert code_of(push(tmp_path, hub, folder, "--yes")) == (2, "push.private")
    assert code_of(push(tmp_path, hub, tmp_path / "gone", "--yes")) == (2, "run.unknown")
    assert hub.asked == []


def exported(folder: Path) -> None:
    """What an export leaves: a file that passed, one that failed, and the record; and what came and went since."""
    ggufs(folder, "A.gguf", "B.failed.gguf", "foreign.gguf")
    checks = [
        {"name": "file", "passed": True, "text": "the same", "figures": {}, "look": ""},
        {"name": "tokenizer", "passed": False, "text": "quotes a row of jane's", "figures": {}, "look": ""},
    ]
    entry = {"passed": True, "losses": {"Q8_0": 1.5}, "checks": checks}
    entry |= {"size": (folder / "A.gguf").stat().st_size, "sha256": sha256(folder / "A.gguf")}
    files = {"A.gguf": entry, "B.failed.gguf": entry | {"passed": False}, "gone.gguf": entry}
    write_json(folder / "proof.json", {"files": files})


def made_run(folder: Path) -> Run:
    """A run that has an adapter, though nothing was trained."""
    data, _, model, *flags = short(folder, steps=2)
    run = create_run(make_ready(read_recipe(data, model, tuple(flag.removeprefix("--set=") for flag in flags), None),
                                lambda _: True))  # fmt: skip
    adapted = Lora(4, 8.0, targets=("q_proj",))
    with new_folder(run.adapter) as temporary:
        config = peft_config(adapted, ["model.layers.0.self_attn.q_proj"], str(folder / "model"), None)
        (temporary / "adapter_config.json").write_text(json.dumps(config))
        save_file({"a": np.zeros(4, np.float32)}, temporary / "adapter_model.safetensors")
    return run


def test_a_runs_products_go_with_a_card_and_without_rows_paths_or_tokens(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, home = tmp_path / "runs", tmp_path / "home-of-jane"
    monkeypatch.setenv("LOCALTUNE_RUNS", str(runs))
    run = made_run(home / "work")
    rows = [json.loads(line) for line in (home / "work" / "rows.jsonl").read_text("utf-8").splitlines()]
    localtune = command(runs, hub, tmp_path, HOME=str(home), USERPROFILE=str(home))
    assert code_of(localtune("push", "last", "--to", "org/name", "--what", "gguf", "--yes")) == (2, "push.no-product")
    done = localtune("push", "last", "--to", "org/name", "--yes")
    assert done.code == 0, done.err
    assert sorted(hub.files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert hub.files["adapter_model.safetensors"] == (run.adapter / "adapter_model.safetensors").read_bytes()
    assert json.loads(hub.files["adapter_config.json"])["base_model_name_or_path"] == "model"
    card = hub.files["README.md"].decode()
    for part in ("library_name: peft", "| training rows | ", "| read from | rows.jsonl |", "| updates | 2 |"):
        assert part in card
    exported(run.export)
    done = localtune("push", "last", "--to", "org/name", "--what", "gguf", "--yes")
    assert done.code == 0, done.err
    assert hub.files["A.gguf"] == (run.export / "A.gguf").read_bytes()
    assert not any(name in hub.files for name in ("B.failed.gguf", "foreign.gguf", "proof.json", "resolved.yaml"))
    card = hub.files["README.md"].decode()
    for part in ("library_name: gguf", "| file of A.gguf | passed: the same |", "| loss of the Q8_0 file | 1.5 |"):
        assert part in card
    assert "| tokenizer of A.gguf | failed |" in card
    assert not any(part in card for part in ("B.failed", "foreign.gguf", "gone.gguf", "quotes a row"))
    with (run.export / "A.gguf").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    asked = len(hub.asked)
    assert code_of(localtune("push", "last", "--to", "org/name", "--what", "gguf", "--yes")) == (2, "push.changed")
    assert len(hub.asked) == asked
    text = bytes(hub.everything)
    answers = {message["content"] for row in rows for message in row["messages"] if len(message["content"]) > 20}
    assert answers
    assert not any(answer.encode() in text for answer in answers)
    for private in (str(tmp_path), "home-of-jane", TOKEN, os.path.expanduser("~/")):
        assert private.encode() not in text
