"""What a user gets for bad input: file, line, what is wrong, how to mend it, the right exit code, and nothing left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import MODEL, QUICKSTART, Command

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
GOOD = json.dumps(ROW) + "\n"


def _recipe(folder: Path, text: str) -> list[str]:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    (folder / "rows.jsonl").write_text(GOOD * 12, encoding="utf-8")
    return ["recipe.yaml"]


def _data(folder: Path, content: str | bytes, *flags: str) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ["rows.jsonl", "-m", str(MODEL), *flags]


def _model(folder: Path, change: Callable[[Path], object]) -> list[str]:
    shutil.copytree(MODEL, folder / "model")
    change(folder / "model")
    return [_data(folder, GOOD * 12)[0], "-m", "model"]


def _config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")


def _small_embedding(folder: Path) -> None:
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(folder / "model.safetensors", "np") as file:
        tensors = {name: np.zeros([16 if n > 1000 else n for n in file.get_slice(name).get_shape()], np.float32)
                   for name in file.keys()}  # fmt: skip  # noqa: SIM118
    save_file(tensors, folder / "model.safetensors")
    _config(folder, vocab_size=16)


Case = Callable[[Path], list[str]]
HEAD = f"version: 1\nmodel: {MODEL.as_posix()}\ndata: {{train: rows.jsonl}}\n"
CASES: dict[str, tuple[Case, int, list[str]]] = {
    "an unknown key": (
        lambda f: _recipe(f, HEAD + "train:\n  learning_rat: 1e-4\n"),
        2,
        ["recipe.yaml:5:3", "train.learning_rat", "learning_rate"],
    ),
    "a wrong type": (
        lambda f: _recipe(f, HEAD + "train: {epochs: three}\n"),
        2,
        ["recipe.yaml:4", "train.epochs is 'three'", "number"],
    ),
    "a duplicate key": (lambda f: _recipe(f, HEAD + "name: a\nname: b\n"), 2, ["recipe.yaml:5:1", "name"]),
    "two errors at once": (
        lambda f: _recipe(f, HEAD + "train: {epochs: three, batch_siz: 4}\n"),
        2,
        ["train.epochs", "batch_siz"],
    ),
    "a missing recipe": (lambda f: ["nowhere.yaml"], 2, ["nowhere.yaml"]),
    "a missing data file": (lambda f: ["nowhere.jsonl", "-m", str(MODEL)], 2, ["nowhere.jsonl"]),
    "empty data": (lambda f: _data(f, ""), 2, ["rows.jsonl", "empty"]),
    "broken JSON in the middle": (
        lambda f: _data(f, GOOD * 5 + '{"messages": [}\n' + GOOD * 5),
        2,
        ["rows.jsonl:6", "JSON", "localtune data check", "--fix bad"],
    ),
    "a row without an answer": (
        lambda f: _data(f, GOOD * 5 + json.dumps({"messages": ROW["messages"][:1]}) + "\n"),
        2,
        ["rows.jsonl:6", "assistant turn"],
    ),
    "an answer cut away by the length limit": (
        lambda f: _data(f, GOOD + GOOD.replace("hi", "hi " * 300), "--set=data.max_tokens=64"),
        2,
        ["rows.jsonl:2", "data.max_tokens"],
    ),
    "unknown columns": (
        lambda f: _data(f, '{"q": "a", "a": "b"}\n' * 12),
        2,
        ["q", "data.columns"],
    ),
    "an unknown architecture": (
        lambda f: _model(f, lambda m: _config(m, architectures=["TeapotForCausalLM"], model_type="teapot")),
        2,
        ["Teapot", "transformers"],
    ),
    "pickled weights": (lambda f: _model(f, _pickled), 2, ["pytorch_model.bin", "safetensors"]),
    "remote code": (
        lambda f: _model(f, lambda m: _config(m, auto_map={"AutoModel": "evil.Model"}, model_type="evil")),
        2,
        ["auto_map", "code"],
    ),
    "token ids beyond the embedding": (lambda f: _model(f, _small_embedding), 2, ["token id", "16"]),
    "a truncated model": (
        lambda f: _model(f, lambda m: (m / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")),
        2,
        ["model.safetensors"],
    ),
    "too little memory": (
        lambda f: _data(f, GOOD * 12, "--set=train.memory_limit=100MB"),
        4,
        ["needs", "100 MB", "largest"],
    ),
    "an unknown hub model offline": (
        lambda f: [*_data(f, GOOD * 12)[:1], "-m", "nobody/nothing"],
        3,
        ["nobody/nothing"],
    ),
    "a data file without a model": (lambda f: _data(f, GOOD)[:1], 2, ["model"]),
    "an unknown run": (lambda f: ["--resume", "nothing"], 2, ["nothing", "localtune runs ls"]),
    "another file type": (lambda f: ["picture.png", "-m", str(MODEL)], 2, ["picture.png"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named_and_mended_and_leaves_nothing(case: str, localtune: Command, tmp_path: Path) -> None:
    make, code, words = CASES[case]
    result = localtune("run", *make(tmp_path), cwd=tmp_path)
    assert result.code == code, result.err
    assert "error[" in result.err
    assert "fix:" in result.err or "expected" in result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err, result.err
    assert list(localtune.runs.iterdir()) == []


def test_the_checks_of_bad_input_would_notice_good_input(localtune: Command, tmp_path: Path) -> None:
    result = localtune("plan", *_data(tmp_path, GOOD * 12), cwd=tmp_path)
    assert result.code == 0
    assert "error[" not in result.err


def test_a_backend_that_is_not_installed_is_named_with_its_command(tmp_path: Path) -> None:
    for name in ("torch", "mlx"):
        hidden = tmp_path / "hidden" / name
        hidden.mkdir(parents=True)
        (hidden / "__init__.py").write_text(f"raise ImportError('No module named {name}')")
    runs = tmp_path / "runs"
    runs.mkdir()
    command = Command(runs, (("PYTHONPATH", str(hidden.parent)),))
    result = command("run", *_data(tmp_path, GOOD * 12), cwd=tmp_path)
    assert result.code == 3, result.err
    assert "pip install" in result.err
    assert list(runs.iterdir()) == []


def test_no_space_on_disk_is_said_before_the_start(localtune: Command, tmp_path: Path) -> None:
    patch = tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(
        "import shutil, collections\n"
        "usage = collections.namedtuple('usage', 'total used free')\n"
        "shutil.disk_usage = lambda path: usage(10**9, 10**9, 1000)\n"
    )
    command = Command(localtune.runs, (("PYTHONPATH", str(patch)),))
    result = command("run", *_data(tmp_path, GOOD * 12), cwd=tmp_path)
    assert result.code == 4, result.err
    assert "of disk" in result.err
    assert list(localtune.runs.iterdir()) == []


def test_every_shipped_recipe_is_planned(localtune: Command) -> None:
    paths = sorted(QUICKSTART.parent.rglob("*.yaml"))
    assert len(paths) >= 5
    for path in paths:
        result = localtune("plan", path, "-m", MODEL, "--set=train.memory_limit=64GB")
        assert result.code == 0, result.err
        assert "steps" in result.out
