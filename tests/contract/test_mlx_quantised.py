"""Bases that MLX stores in few bits: of the mlx-community layout, or quantised when they are loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.adapter import Full, Lora
from localtune.backend import Backend, Precision, Session
from localtune.batch import Floats
from localtune.model import ModelFiles
from tests.contract.conftest import (
    FLOAT32,
    LORA,
    Models,
    Opener,
    Tensors,
    files_of,
    installed,
    logits_apart,
    open_on,
    rows_of,
    saved,
    segment,
)
from tests.contract.gradient import PLAIN_DESCENT, apart, gradient
from tests.contract.test_probe_and_refusals import settings

BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])
TOKENS = segment(12, 5).tokens.tolist()
PLACES = list(range(len(TOKENS)))
CHECKPOINT = Precision("checkpoint", "float32")

GRIDS: dict[str, dict[str, Any]] = {
    **{f"affine{bits}": {"group_size": 64, "bits": bits, "mode": "affine"} for bits in (2, 3, 4, 6, 8)},
    "affine4-32": {"group_size": 32, "bits": 4, "mode": "affine"},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
    "nvfp4": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
    "mxfp8": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
}
STORAGES = [name for name in GRIDS if name != "affine4-32"]


@pytest.fixture(scope="module")
def backend() -> Backend:
    return installed("mlx")


def converted(files: ModelFiles, folder: Path, **grid: Any) -> ModelFiles:
    """What `mlx_lm.convert -q` makes of a model, in `folder`."""
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    model, config = load_model(files.folder)
    model, config = quantize_model(model, config, **grid)
    folder.mkdir()
    save_model(folder, model)
    save_config(config, folder / "config.json")
    (folder / "generation_config.json").write_bytes((files.folder / "generation_config.json").read_bytes())
    return files_of(folder)


def own_logits(files: ModelFiles) -> Floats:
    """What mlx-lm says by itself."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, _ = load_model(files.folder)
    return np.array(model(mx.array([TOKENS]))[0].astype(mx.float32))


@pytest.mark.parametrize("name", GRIDS)
def test_a_checkpoint_of_mlx_community_says_what_mlx_lm_says_and_is_trained_on(
    backend: Backend, models: Models, tmp_path: Path, name: str
) -> None:
    files = converted(models("llama-even"), tmp_path / "model", **GRIDS[name])
    assert files.config.quantized == "mlx"
    with open_on(backend, files, LORA, precision=CHECKPOINT) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), own_logits(files))
        losses = [session.train_step([BATCH], step=step, lr=1e-2).loss for step in range(10)]
        assert losses[-1] < 0.9 * losses[0]
        ours = session.logits(TOKENS, PLACES)
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES, adapter=False), own_logits(files))
        saved(session, tmp_path / "adapter")
    with open_on(backend, files, None, tmp_path / "adapter", precision=CHECKPOINT) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), ours)


def test_layers_with_settings_of_their_own_are_read_as_they_are(
    backend: Backend, models: Models, tmp_path: Path
) -> None:
    def mixed(path: str, _: Any) -> bool | dict[str, Any]:
        return {"group_size": 32, "bits": 8, "mode": "affine"} if "down_proj" in path else "embed" not in path

    files = converted(models("llama-even"), tmp_path / "model", **GRIDS["affine4"], quant_predicate=mixed)
    with open_on(backend, files, precision=CHECKPOINT) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), own_logits(files))


def test_an_adapter_of_a_quantised_checkpoint_opens_on_pytorch(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path
) -> None:
    files = converted(models("llama-even"), tmp_path / "model", **GRIDS["affine8"])
    with open_on(backends[1], files, LORA, precision=CHECKPOINT) as session:
        base = session.logits(TOKENS, PLACES)
        for step in range(3):
            session.train_step([BATCH], step=step, lr=1e-2)
        change = session.logits(TOKENS, PLACES) - base
        saved(session, tmp_path / "adapter")
    with open_on(backends[0], models("llama-even"), None, tmp_path / "adapter") as session:
        theirs = session.logits(TOKENS, PLACES) - session.logits(TOKENS, PLACES, adapter=False)
    assert np.linalg.norm(theirs - change) < 0.1 * np.linalg.norm(change)  # 8 bits are near the model itself


def dequantised(files: ModelFiles, folder: Path, grid: dict[str, Any]) -> ModelFiles:
    """A float32 model whose linear layers inside the blocks hold the values that the grid has."""
    import mlx.core as mx
    from safetensors.numpy import load_file, save_file

    folder.mkdir()
    for path in files.folder.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    tensors: Tensors = load_file(files.folder / "model.safetensors")
    for name, value in tensors.items():
        if ".layers." in name and value.ndim == 2:
            packed = mx.quantize(mx.array(value), **grid)
            tensors[name] = np.array(mx.dequantize(*packed, **grid).astype(mx.float32))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return files_of(folder)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_quantised_base_is_its_own_dequantised_weights(
    backend: Backend, models: Models, tmp_path: Path, storage: Any
) -> None:
    files = models("llama-even")
    plain = dequantised(files, tmp_path / "plain", GRIDS[storage])
    found, gradients = [], []
    for number, (model, precision) in enumerate([(plain, FLOAT32), (files, Precision(storage, "float32"))]):
        with open_on(backend, model, LORA, precision=precision) as session:
            found.append(session.logits(TOKENS, PLACES))
        gradients.append(gradient(_opener(backend, model, precision), tmp_path / str(number), [BATCH]))
    assert logits_apart(found[1], found[0]) <= 1e-6
    assert max(apart(gradients[1], gradients[0]).values()) <= 1e-5
    with open_on(backend, files) as session:
        assert logits_apart(found[1], session.logits(TOKENS, PLACES)) > 1e-4  # it was quantised


def _opener(backend: Backend, files: ModelFiles, precision: Precision) -> Any:
    def opened() -> Session:
        return open_on(backend, files, LORA, precision=precision, optimizer=PLAIN_DESCENT)

    return opened


@pytest.mark.parametrize("storage", ["affine3", "affine6", "mxfp4"])
@pytest.mark.parametrize(
    "lora", [LORA, replace(LORA, dora=True), Lora(3, 5.0, rslora=True)], ids=["lora", "dora", "rs"]
)
def test_every_kind_of_adapter_starts_at_and_trains_on_a_quantised_base(
    open_session: Opener, storage: Any, lora: Lora
) -> None:
    with open_session("llama-even", lora, precision=Precision(storage, "float32")) as session:
        np.testing.assert_array_equal(session.score(BATCH).nll, session.score(BATCH, adapter=False).nll)
        losses = [session.train_step([BATCH], step=step, lr=1e-2).loss for step in range(8)]
    assert losses[-1] < 0.9 * losses[0]


def test_what_a_quantised_base_cannot_do_is_refused(backend: Backend, models: Models, tmp_path: Path) -> None:
    files = converted(models("llama-even"), tmp_path / "model", **GRIDS["affine4"])
    (full,) = backend.supports(files, settings(CHECKPOINT, Full()))
    assert full.setting == "train.method"
    (again,) = backend.supports(files, settings(Precision("affine8", "float32")))
    assert "quantised" in again.reason
    (absent,) = backend.supports(models("llama-even"), settings(CHECKPOINT))
    assert absent.reason
