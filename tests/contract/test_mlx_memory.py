"""What MLX keeps in memory: all logits never, activations as asked, nothing once a session has ended."""

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.adapter import Full, Lora, Trainable
from localtune.backend import Backend, MemorySpec, Precision, Sampling, Session, Storage
from localtune.batch import Batch, Segment
from localtune.errors import InputError, ResourceError
from localtune.targets import targets
from tests.contract.conftest import (
    FAMILIES,
    LORA,
    ROOMY,
    VOCABULARY,
    Models,
    Tensors,
    files_of,
    installed,
    make_model,
    open_on,
    rows_of,
    saved,
    segment,
)
from tests.contract.gradient import PLAIN_DESCENT, apart, gradient

BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])


@pytest.fixture(scope="module")
def backend() -> Backend:
    return installed("mlx")


def words(count: int, vocabulary: int) -> Segment:
    """A text of which every token but the first is learned."""
    tokens = np.random.default_rng(count).integers(3, vocabulary, count).astype(np.int32)
    return Segment(tokens, np.minimum(np.arange(count), 1).astype(np.float32), 0)


@pytest.mark.parametrize("trainable", [LORA, Full()], ids=["lora", "full"])
def test_all_logits_never_exist(backend: Backend, models: Models, trainable: Trainable) -> None:
    batch = rows_of([words(513, 32_000)])
    assert batch.targets == 512
    peaks = []
    for chunk in (512, 16):
        memory = MemorySpec(0, loss_chunk=chunk)
        with open_on(backend, models("llama-words"), trainable, memory=memory, longest=600) as session:
            session.score(batch)
            peaks.append(peak_of(lambda session=session: session.train_step([batch], step=0, lr=1e-3)))  # type: ignore[misc]
    whole = 512 * 32_000 * 4
    others = (
        0 if isinstance(trainable, Lora) else 13 * models("llama-words").size
    )  # an update: old and new, temporaries
    assert peaks[0] > whole + others
    assert peaks[1] < 0.8 * whole + others


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that MLX held at most during `work`."""
    import mlx.core as mx

    mx.clear_cache()
    mx.reset_peak_memory()
    work()
    return mx.get_peak_memory()


def plain_gradient(folder: Path, batch: Batch, tied: bool) -> Tensors:
    """The gradient of the mean loss by every weight, from mlx-lm's own model and MLX's own cross-entropy."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    model, _ = load_model(folder, model_config={"tie_word_embeddings": tied})
    tokens, where = mx.array(batch.tokens), targets(batch)

    def loss(model: Any) -> Any:
        logits = model(tokens)[mx.array(where.rows), mx.array(where.columns - 1)]
        ids = mx.array(batch.tokens[where.rows, where.columns])
        weights = mx.array(batch.weights[where.rows, where.columns])
        return mx.sum(nn.losses.cross_entropy(logits, ids) * weights) / batch.weight

    value_and_grad: Any = nn.value_and_grad(model, loss)
    _, gradients = value_and_grad(model)
    leaves: Any = tree_flatten(gradients)
    return {name: np.array(value) for name, value in leaves}


HEADS = {"untied": "llama", "tied": "llama-tied", "soft-capped": "gemma2-inside"}


@pytest.mark.parametrize("family", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("chunk", [5, 1024])
def test_the_gradient_of_chunks_is_the_plain_one(
    backend: Backend, models: Models, tmp_path: Path, family: str, chunk: int
) -> None:
    batch = rows_of([segment(25, 3)], [segment(20, 2)], [segment(31, 4)])
    files = models(family)
    expected = plain_gradient(files.folder, batch, files.config.tied)

    def opened() -> Session:
        memory = MemorySpec(0, loss_chunk=chunk)
        return open_on(backend, files, Full(), optimizer=PLAIN_DESCENT, memory=memory)

    found = gradient(opened, tmp_path, [batch])
    assert max(apart(found, expected).values()) <= 1e-6
    halved = {name: value * 0.5 if "norm" in name else value for name, value in found.items()}
    assert max(apart(halved, expected).values()) > 0.1


@pytest.mark.parametrize("family", ["llama-tied", "gemma2-inside"])
def test_a_frozen_head_passes_the_gradient_of_the_whole(
    backend: Backend, models: Models, tmp_path: Path, family: str
) -> None:
    found = []
    for chunk in (5, 1024):

        def opened(chunk: int = chunk) -> Session:
            memory = MemorySpec(0, loss_chunk=chunk)
            return open_on(backend, models(family), LORA, optimizer=PLAIN_DESCENT, memory=memory)

        found.append(gradient(opened, tmp_path / str(chunk), [BATCH]))
    assert max(apart(*found).values()) <= 1e-6


@pytest.mark.parametrize("family", ["llama-deep", "gemma3-long"])
def test_recomputing_blocks_lowers_the_peak_and_patches_no_class(
    backend: Backend, models: Models, tmp_path: Path, family: str
) -> None:
    import importlib

    module = importlib.import_module(f"mlx_lm.models.{'llama' if family == 'llama-deep' else 'gemma3_text'}")
    before = {name: kind.__call__ for name, kind in vars(module).items() if isinstance(kind, type)}
    batch = rows_of([words(400, VOCABULARY)])
    peaks, weights = [], []
    for memory in (ROOMY, replace(ROOMY, checkpointing="blocks")):
        with open_on(backend, models(family), LORA, memory=memory, longest=512) as session:
            session.train_step([batch], step=0, lr=1e-3)
            peaks.append(peak_of(lambda session=session: session.train_step([batch], step=1, lr=1e-3)))  # type: ignore[misc]
            weights.append(saved(session, tmp_path / memory.checkpointing))
            assert {name: kind.__call__ for name, kind in vars(module).items() if isinstance(kind, type)} == before
    assert max(apart(weights[1], weights[0]).values()) <= 1e-6
    assert peaks[1] < (0.6 if family == "llama-deep" else 0.9) * peaks[0]


def test_leaving_a_session_frees_its_memory(backend: Backend, models: Models) -> None:
    import mlx.core as mx

    mx.clear_cache()
    before = mx.get_active_memory()
    with open_on(backend, models("llama-words"), LORA) as session:
        session.train_step([BATCH], step=0, lr=1e-3)
        assert mx.get_active_memory() > before + models("llama-words").size // 2
    del session
    assert mx.get_active_memory() <= before + 200_000


def test_after_a_limit_that_was_too_small_other_sessions_train(backend: Backend, models: Models) -> None:
    with suppress(ResourceError), open_on(backend, models("llama-words"), LORA, memory=MemorySpec(10_000)) as session:
        session.train_step([BATCH], step=0, lr=1e-3)
    with open_on(backend, models("llama"), LORA) as session:
        assert session.train_step([BATCH], step=0, lr=1e-3).applied


def test_the_base_keeps_its_bytes(backend: Backend, models: Models, tmp_path: Path) -> None:
    tokens = segment(12, 5).tokens.tolist()
    with open_on(backend, models("llama-even"), precision="quantised") as session:
        base = session.logits(tokens, range(12))
    with open_on(backend, models("llama-even"), LORA, precision="quantised") as session:
        for step in range(3):
            session.train_step([BATCH], step=step, lr=1e-2)
        np.testing.assert_array_equal(session.logits(tokens, range(12), adapter=False), base)
        assert np.any(session.logits(tokens, range(12)) != base)


def test_a_biased_model_is_trained_with_its_biases(backend: Backend, tmp_path: Path) -> None:
    kind, extra = FAMILIES["llama"]
    shape = (kind, {**extra, "attention_bias": True, "mlp_bias": True})
    files = files_of(make_model(shape, tmp_path / "biased"))
    said = []
    for one in (installed("torch"), backend):
        with open_on(one, files, LORA) as session:
            session.train_step([BATCH], step=0, lr=1e-2)
            said.append(session.logits(list(range(3, 20)), range(17)))
    assert np.max(np.abs(said[1] - said[0])) <= 1e-4


@pytest.mark.parametrize("storage", ["affine4", "mxfp4"])
def test_a_base_that_is_quantised_never_lies_in_memory_whole(
    backend: Backend, tmp_path: Path, storage: Storage
) -> None:
    shape = {"hidden_size": 128, "intermediate_size": 384, "num_key_value_heads": 4, "num_hidden_layers": 12}
    files = files_of(make_model(("LlamaForCausalLM", shape), tmp_path / "deep"))
    peaks = []
    for precision in (Precision("float32", "float32"), Precision(storage, "float32")):
        with open_on(backend, files, precision=precision):
            pass
        gc.collect()

        def opened(precision: Precision = precision) -> None:
            with open_on(backend, files, precision=precision):
                pass

        peaks.append(peak_of(opened))
        gc.collect()
    assert peaks[0] > files.size
    assert peaks[1] < 0.7 * files.size


def test_a_text_beyond_an_ignored_window_is_refused_and_an_answer_ends_there(backend: Backend, models: Models) -> None:
    files = models("gemma2")
    assert files.config.sliding_window == 6
    text = segment(7, 1).tokens.tolist()
    with open_on(backend, files, objective=None, optimizer=None) as session:
        for ask in (
            lambda: session.logits(text, [0]),
            lambda: session.score(rows_of([segment(7, 1)])),
            lambda: list(session.generate([text], Sampling((), 1))),
        ):
            with pytest.raises(InputError, match="sliding window of 6"):
                ask()
        assert len(list(session.generate([text[:4]], Sampling((), 10)))) == 2
