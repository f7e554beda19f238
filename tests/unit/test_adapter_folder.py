"""A PEFT adapter that is no run's, such as a merged one, as a GGUF of its own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tokenizers import pre_tokenizers

from localtune.cli.export import export_command
from localtune.errors import InputError
from localtune.export.read import read_gguf
from localtune.merging import merge
from tests.typed import words
from tests.unit.export.test_adapter_file import VOCABULARY, make_adapter
from tests.unit.export.tiny import byte_level, llama, save_tokenizer


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters as one, beside their base."""
    folder = tmp_path_factory.mktemp("adapters")
    base = folder / "base"
    save_tokenizer(base, byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY))
    llama(base, VOCABULARY, eos=2, attention_bias=True)
    both = [make_adapter(base, folder / name, target_modules=[name]) for name in ("q_proj", "down_proj")]
    merge(both, folder / "merged")
    return folder / "merged"


def exported(folder: Path, out: Path, *options: str) -> Path:
    done = CliRunner().invoke(export_command, [str(folder), "--adapter", "-o", str(out), *options])
    if done.exception is not None:
        raise done.exception
    assert "not compared with its training" in done.stderr
    (path,) = out.glob("*.gguf")
    assert words(done.stderr.partition("next: ")[2])[:5] == ["localtune", "chat", "BASE.gguf", "--lora", str(path)]
    return path


def test_a_merged_adapter_becomes_a_gguf_that_says_so(merged: Path, tmp_path: Path) -> None:
    file = read_gguf(exported(merged, tmp_path / "my files"))
    assert (file.metadata["general.type"], file.metadata["adapter.type"]) == ("adapter", "lora")
    assert json.loads(file.metadata["localtune.proof"]) == {"passed": None}
    names = {tensor.name for tensor in file.tensors}
    expected = [f"blk.0.{module}.weight.lora_{part}" for module in ("attn_q", "ffn_down") for part in "ab"]
    assert names.issuperset(expected)
    (entry,) = json.loads((tmp_path / "my files" / "proof.json").read_text("utf-8"))["files"].values()
    assert entry["passed"] is None


def test_its_base_is_the_one_that_is_named_where_its_own_is_not_known(merged: Path, tmp_path: Path) -> None:
    path = merged / "adapter_config.json"
    whole, base = path.read_text("utf-8"), str(merged.with_name("base"))
    for named, code in ((None, "export.base"), ("org/another", "adapter.base")):
        path.write_text(json.dumps(json.loads(whole) | {"base_model_name_or_path": named}), "utf-8")
        options = ["-m", base] if named else []
        with pytest.raises(InputError) as caught:
            exported(merged, tmp_path / "out", *options)
        (problem,) = caught.value.problems
        assert problem.code == code
        assert words(problem.fix)[:4] == ["localtune", "export", str(merged), "--adapter"]
        exported(merged, tmp_path / f"out of {code}", "-m", base, "--force")
    path.write_text(whole, "utf-8")


def test_a_run_has_its_own_base(tmp_path: Path) -> None:
    done = CliRunner().invoke(export_command, ["a-run", "--adapter", "-m", "org/base"])
    assert done.exit_code == 2
    assert "-m and --force are for the adapter in a FOLDER" in done.stderr
