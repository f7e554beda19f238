"""From a finished run to files to chat with, from the command line."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from localtune.distribution import Distributions, divergence, from_logits
from localtune.errors import InputError, RunFailed
from localtune.events import Product, Proof, Replies
from localtune.export.read import read_gguf
from localtune.fuse import Fused, fuse
from localtune.job import read_job
from localtune.products import fused as fusing
from localtune.products import making, set_aside
from localtune.products.gguf import export_run
from localtune.reference import read
from localtune.runs.files import is_complete, sha256
from localtune.runs.folder import Run
from tests.command import MODEL, QUICKSTART, Command, returned, short
from tests.e2e.in_process import InProcess

pytestmark = pytest.mark.usefixtures("few_places")


def short_to_compare(folder: Path, *, steps: int = 8) -> list[str]:
    """A short run with two rows to compare at, which are a quarter of the positions too."""
    arguments = short(folder, steps=steps)
    rows = (QUICKSTART / "valid.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "held.jsonl").write_text("\n".join(rows[:2]) + "\n", encoding="utf-8")
    return [*arguments, f"--set=data.valid={folder / 'held.jsonl'}"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("products") / "runs"


@pytest.fixture(scope="module")
def command(runs: Path) -> Command:
    return InProcess(runs)


@pytest.fixture(scope="module")
def run(command: Command, runs: Path) -> Run:
    """A run whose recipe asks for a GGUF."""
    done = command(
        "run", *short_to_compare(runs.parent / "data", steps=6), "--name", "made", "--set", "export.gguf=[Q8_0]"
    )
    assert done.code == 0, done.err
    (folder,) = runs.glob("made-*")
    return Run(folder)


def _copy(run: Run, name: str) -> Run:
    folder = run.folder.with_name(f"{name}-20260101-000000")
    shutil.copytree(run.folder, folder)
    return Run(folder)


def test_a_run_fuses_exports_and_proves_what_its_recipe_asks_for(run: Run) -> None:
    events = [event for event, _ in run.read_events()]
    made = [event.name for event in events if isinstance(event, Product)]
    assert made == ["adapter", "fused", "Q8_0"]
    proofs = [event for event in events if isinstance(event, Proof)]
    assert [proof.product for proof in proofs][:2] == ["fused", "conversion (F32)"]
    assert all(proof.passed for proof in proofs)
    assert set(proofs[-1].losses) == {"base", "tuned", "weights", "Q8_0"}
    (replies,) = (event for event in events if isinstance(event, Replies))
    assert set(replies.texts) == {"base", "adapter", "Q8_0"}
    assert {path.suffix or path.name for path in run.export.iterdir()} == {".gguf", ".json", ".md", "Modelfile"}


def test_the_end_of_a_run_names_every_product_and_what_to_type_next(run: Run, command: Command) -> None:
    shown = command("runs", "show", run.name).out
    for product in run.products():
        assert str(product) in shown
    assert len(run.products()) == 3


def test_the_fused_folder_is_a_complete_model_that_transformers_loads(run: Run) -> None:
    import torch
    import transformers

    assert is_complete(run.fused, verify=True)
    assert (run.fused / "tokenizer.json").read_bytes() == (MODEL / "tokenizer.json").read_bytes()
    model = transformers.AutoModelForCausalLM.from_pretrained(run.fused, dtype=torch.float32)
    reference = read(run.reference)
    compared, tuned = reference.places, reference.said["tuned"]
    here = compared.row == 0
    with torch.no_grad():
        logits = model(torch.tensor(compared.rows[0])[None]).logits[0, compared.at[here]].numpy()
    loaded = from_logits(logits, compared.following[here])
    recorded = Distributions(tuned.ids[here], tuned.logprobs[here], tuned.following[here])
    apart = divergence(recorded, loaded)  # the folder is in bfloat16
    assert apart.mean() < 1e-4
    assert apart.max() < 1e-2
    assert (run.fused / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_the_file_says_of_itself_where_it_is_from(run: Run) -> None:
    (path,) = run.export.glob("*.gguf")
    metadata = read_gguf(path).metadata
    assert metadata["localtune.run"] == run.name
    assert metadata["localtune.adapter.sha256"] == sha256(run.adapter / "adapter_model.safetensors")
    assert json.loads(metadata["localtune.proof"])["passed"] is True
    book = json.loads((run.export / "proof.json").read_text(encoding="utf-8"))
    assert book["files"][path.name]["sha256"] == sha256(path)


def test_an_export_uses_the_fused_weights_that_are_there(run: Run, command: Command) -> None:
    before = (run.fused / "model.safetensors").stat().st_mtime_ns
    done = command("export", run.name, "--gguf", "f16,F16", "--json")
    assert done.code == 0, done.err
    kinds = [json.loads(line)["type"] for line in done.out.splitlines()]
    assert kinds.count("product") == 2  # the fused one is kept, and told with its proof
    assert (run.fused / "model.safetensors").stat().st_mtime_ns == before
    book = json.loads((run.export / "proof.json").read_text(encoding="utf-8"))
    assert sorted(entry["product"].rpartition("-")[2] for entry in book["files"].values()) == ["F16.gguf", "Q8_0.gguf"]


def test_fused_weights_without_the_adapter_are_caught_and_kept_aside(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = _copy(run, "lost")
    shutil.rmtree(lost.fused)
    elsewhere = tmp_path / "honest"
    elsewhere.mkdir()

    def unchanged(model: Any, adapter: Path, folder: Path, dtype: Any = None) -> Fused:
        for name in os.listdir(model.folder):
            shutil.copyfile(model.folder / name, folder / name)
        return replace(fuse(model, adapter, elsewhere, dtype), kept=1.0)

    monkeypatch.setattr(fusing, "fuse", unchanged)
    with pytest.raises(RunFailed, match=r"proof of fused failed \(fusion, training\)") as caught:
        returned(fusing.fused(read_job(lost)))
    assert "the adapter, the base it was trained on" in str(caught.value)
    assert not lost.fused.exists()
    assert (lost.folder / "fused.failed" / "model.safetensors").is_file()


BROKEN: dict[str, Callable[[str, Any], Any]] = {
    "no value projection": lambda name, b: b * ("v_proj" not in name),
    "no second layer": lambda name, b: b * (".layers.1." not in name),
    "nine tenths of the scale": lambda name, b: b * 0.9,
    "no single module": lambda name, b: b * (".layers.0.mlp.down_proj." not in name),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_fused_weights_with_a_part_of_the_adapter_are_caught(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    lost = _copy(run, "part")
    shutil.rmtree(lost.fused)
    tensors = load_file(lost.adapter / "adapter_model.safetensors")
    partial = {n: BROKEN[broken](n, t) if "lora_B" in n else t for n, t in tensors.items()}
    part = tmp_path / "part"
    shutil.copytree(lost.adapter, part)
    save_file({n: t.astype("float32") for n, t in partial.items()}, part / "adapter_model.safetensors")
    monkeypatch.setattr(fusing, "fuse", lambda model, adapter, *rest, **more: fuse(model, part, *rest, **more))
    try:
        with pytest.raises(RunFailed, match=r"proof of fused failed \(fusion"):
            returned(fusing.fused(read_job(lost)))
    finally:
        shutil.rmtree(lost.folder)


def test_an_adapter_that_was_changed_is_fused_again(run: Run, command: Command) -> None:
    changed = _copy(run, "changed")
    job = read_job(changed)
    made = json.loads((changed.fused / "proof.json").read_text(encoding="utf-8"))
    assert made["adapter"] == sha256(changed.adapter / "adapter_model.safetensors")
    assert fusing._is_current(job, changed.fused, check=True)
    with (changed.adapter / "adapter_model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    assert not fusing._is_current(job, changed.fused, check=True)
    with pytest.raises(InputError, match="no product yet"):
        returned(fusing.fused(job))


def test_a_folder_that_holds_anything_else_is_never_replaced(run: Run, command: Command, tmp_path: Path) -> None:
    thesis = tmp_path / "work"
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("years", encoding="utf-8")
    (thesis / "proof.json").write_text('{"theorem": 1}', encoding="utf-8")
    refused = command("fuse", run.name, "-o", thesis)
    assert refused.code == 2
    assert "fuse.exists" in refused.err
    assert sorted(path.name for path in thesis.iterdir()) == ["proof.json", "thesis.txt"]
    edited = _copy(run, "edited")
    (edited.fused / "README.md").write_text("my own words", encoding="utf-8")
    (edited.adapter / "adapter_model.safetensors").touch()
    returned(fusing.fused(read_job(edited)))
    assert is_complete(edited.fused, verify=True)
    (aside,) = edited.folder.glob("fused.changed")
    assert (aside / "README.md").read_text(encoding="utf-8") == "my own words"


def test_what_failed_before_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    for name in ("x.failed", "y.failed"):
        (tmp_path / name).mkdir()
    (tmp_path / "x.failed" / "thesis.txt").write_text("years", encoding="utf-8")
    aside = set_aside(tmp_path / "y.failed", tmp_path / "x.failed")
    assert aside != tmp_path / "x.failed"
    assert (tmp_path / "x.failed" / "thesis.txt").is_file()


def test_a_product_that_is_kept_is_told_with_its_proof(run: Run) -> None:
    events = list(fusing.fused(read_job(run)))
    assert [type(event) for event in events] == [Product, Proof]
    assert isinstance(events[1], Proof)
    assert events[1].passed


def test_a_lost_record_of_the_weights_is_made_again(run: Run) -> None:
    lost = _copy(run, "torn")
    os.truncate(lost.weights, 100)
    (path,) = returned(export_run(read_job(lost), ["F16"]))
    assert json.loads(read_gguf(path).metadata["localtune.proof"])["checks"]["training"] is not False


def test_another_runs_fused_model_is_not_replaced(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.fused, tmp_path / "theirs")
    fusing._refuse_foreign(tmp_path / "theirs", run.name)
    with pytest.raises(InputError, match="no fusion of this run wrote"):
        fusing._refuse_foreign(tmp_path / "theirs", "another-20260101-000000")


def test_a_file_that_no_export_wrote_is_never_replaced(run: Run, command: Command, tmp_path: Path) -> None:
    (path,) = run.export.glob("*Q8_0.gguf")
    (tmp_path / path.name).write_text("another's", encoding="utf-8")
    refused = command("export", run.name, "-o", tmp_path)
    assert refused.code == 2
    assert "export.exists" in refused.err
    assert (tmp_path / path.name).read_text(encoding="utf-8") == "another's"
    (tmp_path / path.name).unlink()
    (tmp_path / "proof.json").write_text('{"theorem": 1}', encoding="utf-8")
    assert command("export", run.name, "-o", tmp_path).code == 2
    assert json.loads((tmp_path / "proof.json").read_text(encoding="utf-8")) == {"theorem": 1}


def test_rows_of_the_user_are_not_in_the_folder_for_others(run: Run) -> None:
    names = sorted(path.name for path in run.fused.iterdir() if path.suffix == ".safetensors")
    assert names == ["model.safetensors"]
    assert run.weights.is_file()


def test_a_damaged_reference_is_recorded_again(run: Run) -> None:
    damaged = _copy(run, "damaged")
    shutil.rmtree(damaged.fused)
    os.truncate(damaged.reference, 1000)
    folder = returned(fusing.fused(read_job(damaged)))
    assert folder == damaged.fused
    assert {"tuned", "base"} == set(read(damaged.reference).said)


def test_two_cannot_make_products_of_one_run_at_once(run: Run) -> None:
    with making(run), pytest.raises(InputError, match="another process is making products"), making(run):
        pass


def test_what_cannot_be_exported_is_said_before_anything_is_trained(command: Command, tmp_path: Path) -> None:
    model = tmp_path / "odd"
    shutil.copytree(MODEL, model)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arguments = [word if word != str(MODEL) else str(model) for word in short(tmp_path / "data")]
    refused = command("run", *arguments, "--name", "odd", "--set", "export.gguf=[Q8_0]")
    assert refused.code == 2
    assert "dynamic" in refused.err
    assert not list(command.runs.glob("odd-*"))


def test_a_base_that_was_changed_since_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    other = _copy(run, "other")
    shutil.rmtree(other.fused)
    environment = json.loads(other.environment.read_text(encoding="utf-8"))
    environment["model"]["sha256"]["model.safetensors"] = "0" * 64
    job = read_job(other)
    other.environment.write_text(json.dumps(environment), encoding="utf-8")
    with pytest.raises(InputError, match="not those this run began with"):
        returned(fusing.fused(job))
    assert not other.fused.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["export", "made", "--gguf", "F9"], 2, "F9 is no type"),
        (["export", "made", "--gguf", "IQ4_XS"], 3, "llama-quantize"),
        (["export", "made", "--to", "nowhere"], 2, "takes no files here"),
        (["export", "nobody"], 2, "no run is called 'nobody'"),
        (["fuse", "nobody"], 2, "no run is called 'nobody'"),
    ],
)
def test_bad_arguments_get_one_clear_line(
    run: Run, command: Command, arguments: list[str], code: int, said: str
) -> None:
    done = command(*arguments)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_file_in_the_place_of_the_folder_is_one_clear_line(run: Run, command: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x", encoding="utf-8")
    done = command("export", run.name, "--gguf", "F16", "-o", tmp_path / "taken")
    assert done.code == 3
    assert "product.system" in done.err
    assert "taken" in done.err
    assert "Traceback" not in done.err


def test_a_model_folder_is_exported_and_compared_at_built_in_passages(command: Command, tmp_path: Path) -> None:
    done = command("export", MODEL, "--gguf", "F16", "-o", tmp_path, "--json")
    assert done.code == 0, done.err
    proof = next(json.loads(line) for line in done.out.splitlines() if json.loads(line)["type"] == "proof")
    assert proof["passed"] is True
    assert [check["name"] for check in proof["checks"]] == ["tokens", "template", "stop", "file", "tensors"]
    assert len(list(tmp_path.glob("*.gguf"))) == 1


def test_a_users_card_and_modelfile_stay_and_ollama_gets_the_file_that_was_made(tmp_path: Path) -> None:
    out, programs = tmp_path / "out", tmp_path / "programs"
    out.mkdir()
    programs.mkdir()
    (out / "README.md").write_text("# Notes: trained with localtune\n", encoding="utf-8")
    (out / "Modelfile").write_text("FROM ./somebody-elses.gguf\n", encoding="utf-8")
    fake = programs / "ollama"
    fake.write_text(
        f"#!{sys.executable}\nimport sys\nprint(sys.argv[2], open(sys.argv[4]).readline())\n", encoding="utf-8"
    )
    fake.chmod(0o755)
    command = Command(tmp_path / "runs", (("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}"),))
    done = command("export", MODEL, "--gguf", "F16", "--no-proof", "--to", "ollama", "--name", "mine", "-o", out)
    assert done.code == 0, done.err
    (made,) = out.glob("*.gguf")
    assert f"mine FROM ./{made.name}" in done.err
    assert "Modelfile is there already" in done.err
    assert "not verified" in done.err
    assert (out / "README.md").read_text(encoding="utf-8") == "# Notes: trained with localtune\n"
    assert (out / "Modelfile").read_text(encoding="utf-8") == "FROM ./somebody-elses.gguf\n"
    assert json.loads(read_gguf(made).metadata["localtune.proof"]) == {"passed": None}
    refused = command("export", MODEL, "--to", "ollama", "--name", "not a name", "-o", out)
    assert (refused.code, "ollama.name" in refused.err) == (2, True)


def test_the_file_of_another_run_is_not_replaced(run: Run, command: Command, tmp_path: Path) -> None:
    assert command("export", run.name, "--gguf", "F16", "--no-proof", "-o", tmp_path).code == 0
    other = _copy(run, "another")
    refused = command("export", other.name, "--gguf", "F16", "--no-proof", "-o", tmp_path)
    assert refused.code == 2
    assert f"made of {run.name}" in refused.err
