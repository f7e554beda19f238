"""What only PyTorch can be asked: closed forms and differences in float64, the flags of its libraries, its hygiene."""

import gc
import hashlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from localtune_torch import backend as torch_backend
from localtune_torch import device as torch_device
from localtune_torch import generation, loss
from localtune_torch import optimizer as adamw
from localtune_torch.backend import TorchBackend
from localtune_torch.memory import memory_or_error, within
from localtune_torch.session import TorchSession

from localtune import prompt_blocks
from localtune.adapter import Full, Lora, Nothing
from localtune.backend import MemorySpec, OptimizerSpec, Precision, Sampling
from localtune.errors import InputError, ResourceError
from localtune.model import ModelFiles, resolve
from localtune.objectives import SFT
from tests.contract.conftest import (
    BFLOAT16,
    FAMILIES,
    FLOAT32,
    LORA,
    NF4,
    PLAIN,
    ROOMY,
    Models,
    needs,
    rows_of,
    segment,
)

BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests look inside and compute beside the session: on the processor, unless they ask for a card."""
    if request.node.get_closest_marker("cuda") is None:
        monkeypatch.setattr(torch_device, "compute_device", lambda: CPU)


def opened(models: Models, family: str, trainable: Any = LORA, **changed: Any) -> TorchSession:
    plain: dict[str, Any] = {"precision": FLOAT32, "objective": SFT, "optimizer": PLAIN, "memory": ROOMY, "seed": 7}
    asked = {**plain, **changed}
    needs(asked["precision"])
    return TorchBackend().open(models(family), trainable, None, **asked)


def closed_form(spec: OptimizerSpec, start: Any, gradients: Any, lrs: list[float], *, correct: bool = True) -> Any:
    """The formula of `localtune_torch.optimizer` in numpy, over a list of tensors."""
    values = [value.copy() for value in start]
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    for t, (step, lr) in enumerate(zip(gradients, lrs, strict=True), start=1):
        norm = np.sqrt(sum(np.sum(g**2) for g in step))
        factor = min(1.0, spec.clip / (norm + 1e-6)) if spec.clip else 1.0
        for i, g in enumerate(step):
            first[i] = spec.beta1 * first[i] + (1 - spec.beta1) * factor * g
            second[i] = spec.beta2 * second[i] + (1 - spec.beta2) * (factor * g) ** 2
            m = first[i] / (1 - spec.beta1**t) if correct else first[i]
            v = second[i] / (1 - spec.beta2**t) if correct else second[i]
            decay = spec.weight_decay if values[i].ndim > 1 else 0.0
            values[i] = values[i] * (1 - lr * decay) - lr * m / (np.sqrt(v) + spec.epsilon)
    return values


@pytest.mark.parametrize("spec", [PLAIN, OptimizerSpec(beta2=0.95, weight_decay=0.1, clip=0.5)], ids=["plain", "full"])
def test_fifty_updates_are_the_closed_form(spec: OptimizerSpec) -> None:
    generator = np.random.default_rng(0)
    start = [generator.normal(size=shape) for shape in ((6, 5), (7,))]
    gradients = [[generator.normal(size=v.shape) * 10.0 ** generator.integers(-3, 2) for v in start] for _ in range(50)]
    lrs = [1e-2 * (1 - step / 60) for step in range(50)]
    parameters = [torch.nn.Parameter(torch.from_numpy(value.copy())) for value in start]
    optimizer = adamw.adamw(spec, parameters, CPU)
    for step, lr in zip(gradients, lrs, strict=True):
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        adamw.update(optimizer, lr=lr, norm=float(adamw.gradient_norm(parameters)), clip=spec.clip)
    expected = closed_form(spec, start, gradients, lrs)
    uncorrected = closed_form(spec, start, gradients, lrs, correct=False)
    for parameter, value, wrong in zip(parameters, expected, uncorrected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-7)
        assert np.max(np.abs(parameter.detach().numpy() - wrong)) > 1e-2


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2"])
@pytest.mark.parametrize("trainable", [LORA, replace(LORA, dora=True), Full()], ids=["lora", "dora", "full"])
def test_gradients_are_the_finite_differences_of_the_loss(
    models: Models, monkeypatch: pytest.MonkeyPatch, family: str, trainable: Any
) -> None:
    session = opened(models, family, trainable)
    session.train_step([BATCH], step=0, lr=1e-2)  # B off zero, so that A has a gradient too
    session.transformer.double().train()
    monkeypatch.setattr(torch, "float32", torch.float64)  # norms, softmax and loss widen to float32 by this name
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    session.objective_sum(SFT, BATCH).backward()  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(0)
    checked = list(session.trained.items())
    names = [".lora_B.", "layernorm", "lm_head", "embed_tokens"]
    if not (isinstance(trainable, Lora) and trainable.dora):
        names.append(".lora_A.")  # DoRA holds the norm constant, so its A and B have another gradient on purpose
    else:
        names = ["lora_magnitude_vector"]
    for name, parameter in [entry for entry in checked if any(part in entry[0] for part in names)][:12]:
        assert parameter.grad is not None
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        assert finite_difference(session, parameter, direction) == pytest.approx(
            float((parameter.grad * direction).sum()), rel=1e-6, abs=1e-7
        ), name


def finite_difference(session: TorchSession, parameter: torch.nn.Parameter, direction: torch.Tensor) -> float:
    sums = []
    with torch.no_grad():
        for side in (1e-5, -1e-5):
            parameter.add_(direction, alpha=side)
            session.transformer.train()
            sums.append(float(session.objective_sum(SFT, BATCH)))
            parameter.sub_(direction, alpha=side)
    return (sums[0] - sums[1]) / 2e-5


@pytest.mark.parametrize("precision", [FLOAT32, NF4], ids=lambda p: p.storage)
def test_only_the_adapter_has_gradients_and_the_base_keeps_its_bytes(models: Models, precision: Any) -> None:
    session = opened(models, "llama", precision=precision)
    before = base_hash(session)
    for step in range(3):
        session.train_step([BATCH], step=step, lr=1e-2)
        session.score(BATCH)
        list(session.generate([[3, 4, 5]], Sampling((2,), 3)))
    assert base_hash(session) == before
    session.transformer.train()
    session.objective_sum(SFT, BATCH).backward()  # type: ignore[no-untyped-call]
    with_gradient = {id(p) for p in session.transformer.parameters() if p.grad is not None}
    assert with_gradient == {id(p) for p in session.trained.values()}
    assert all(p.dtype == torch.float32 for p in session.trained.values())


def base_hash(session: TorchSession) -> str:
    digest = hashlib.sha256()
    for name, parameter in session.transformer.named_parameters():
        if ".lora_" not in name:
            digest.update(parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def repackers(session: TorchSession) -> Iterator[Any]:
    return (m for m in session.transformer.modules() if hasattr(m, "support_avx512bf16_for_cpu"))


def gradients_after_scoring(models: Models, *, repack: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The adapter's gradients before and after one evaluation."""
    session = opened(models, "llama-even", precision=NF4)
    for module in repackers(session):
        assert module.support_avx512bf16_for_cpu is False
        module.support_avx512bf16_for_cpu = repack
    session.train_step([BATCH], step=0, lr=1e-2)
    found = []
    for _ in range(2):
        session.transformer.train()
        session.objective_sum(SFT, BATCH).backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.clone() for p in session.trained.values() if p.grad is not None])
        for parameter in session.trained.values():
            parameter.grad = None
        session.score(BATCH)
    return found[0], found[1]


def test_an_evaluation_leaves_nf4_gradients_alone(models: Models) -> None:
    before, after = gradients_after_scoring(models, repack=False)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.skipif(
    not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)(),
    reason="this CPU has no AVX512-BF16: nothing is repacked",
)
def test_with_bitsandbytes_repacking_they_would_be_wrong(models: Models) -> None:
    before, after = gradients_after_scoring(models, repack=True)
    gap = sum(float((a - b).norm() ** 2) for a, b in zip(before, after, strict=True)) ** 0.5
    assert gap / sum(float(a.norm() ** 2) for a in before) ** 0.5 > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_the_model_bit_for_bit(models: Models, family: str) -> None:
    session = opened(models, family)
    model = session.transformer
    tokens = torch.tensor([segment(12, 5).tokens.tolist()])
    with torch.no_grad():
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
        assert torch.equal(loss.own_head(model)(hidden), model(input_ids=tokens, use_cache=False).logits[0])
        by_hand = torch.nn.functional.linear(hidden, model.lm_head.weight)
        if family in ("gemma2", "granite", "cohere"):
            assert not torch.allclose(by_hand, loss.own_head(model)(hidden), rtol=1e-2)


@pytest.mark.parametrize(("trainable", "passes"), [(LORA, 1), (Full(), 2)], ids=["lora", "full"])
def test_no_more_logits_than_a_chunk_exist_at_once(models: Models, trainable: Any, passes: int) -> None:
    session = opened(models, "llama", trainable, memory=replace(ROOMY, loss_chunk=5))
    seen: list[int] = []
    session.transformer.lm_head.register_forward_hook(lambda _, __, output: seen.append(output.shape[-2]))
    session.train_step([BATCH], step=0, lr=1e-2)
    session.score(BATCH)
    assert max(seen) == 5
    assert len(seen) == (passes + 1) * -(-BATCH.targets // 5)  # a head that trains runs again in the backward pass


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gemma2", "granite"])
def test_a_frozen_head_passes_the_gradient_of_the_whole(models: Models, family: str) -> None:
    session = opened(models, family)
    hidden = torch.randn(13, 48, generator=torch.Generator().manual_seed(0), requires_grad=True)
    tokens = torch.arange(13)
    weights = torch.linspace(-1, 2, 13)
    head, found = loss.own_head(session.transformer), []
    for trains in (False, True):
        logprobs = loss.target_logprobs(head, hidden, tokens, 5, trains=trains)
        found.append((logprobs, torch.autograd.grad((logprobs.exp() * weights).sum(), hidden)[0]))
    whole = torch.log_softmax(session.transformer.lm_head(hidden), 1)[torch.arange(13), tokens]
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-8)
    assert torch.allclose(whole, found[0][0], atol=1e-5) == (family in ("llama", "llama-tied"))


def test_a_family_that_would_leak_is_found_out_and_not_trained_packed(models: Models) -> None:
    session = opened(models, "gpt-oss")  # transformers 5.23 gives its masks no positions
    with pytest.raises(InputError, match="see each other"):
        session.train_step([BATCH], step=0, lr=1e-3)
    session.train_step([rows_of([segment(9, 1)], [segment(20, 2)])], step=0, lr=1e-3)


CACHED = [Precision("float32", "bfloat16"), Precision("nf4", "bfloat16"), FLOAT32, BFLOAT16, NF4]


@pytest.mark.parametrize("precision", CACHED, ids=lambda p: f"{p.storage}-{p.compute}")
@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3"])
def test_the_cache_takes_what_a_token_is_said_to_cost(models: Models, family: str, precision: Precision) -> None:
    session = opened(models, family, precision=precision)
    caches: list[Any] = []
    session.transformer.register_forward_hook(lambda _, __, output: caches.append(output.past_key_values))
    list(session.generate([[3, 4], [5, 6]], Sampling((), 3)))
    held = sum(tensor.nbytes for layer in caches[-1].layers for tensor in (layer.keys, layer.values))
    number_bytes = prompt_blocks.cached_bytes(precision)
    token = prompt_blocks.BLOCK_BYTES / prompt_blocks.room(models(family).config, number_bytes, 0).tokens
    assert held == 2 * 4 * int(token)  # two rows of four tokens; the last one drawn is never computed on


def test_a_smaller_limit_makes_smaller_blocks(models: Models) -> None:
    widths: list[set[int]] = []
    for limit in (0, 1):
        session = opened(models, "llama", memory=MemorySpec(limit))
        seen: set[int] = set()
        session.transformer.register_forward_hook(lambda _, __, output, seen=seen: seen.add(output.logits.shape[0]))
        list(session.generate([[3, 4], [5, 6], [7, 8, 9]], Sampling((), 3)))
        widths.append(seen)
    assert widths == [{3}, {1}]


@pytest.mark.parametrize("drawn", [1, 5])
def test_closing_an_answer_frees_its_cache(models: Models, drawn: int) -> None:
    session = opened(models, "llama")
    caches: list[weakref.ref[Any]] = []

    def note(_: object, __: object, output: Any) -> None:
        caches.append(weakref.ref(output.past_key_values.layers[0].keys))

    session.transformer.register_forward_hook(note)
    gc.disable()
    try:
        answer = session.generate([[3, 4], [5, 6]], Sampling((), 30))
        for _ in range(drawn):
            next(answer)
        assert caches[-1]() is not None
        answer.close()  # type: ignore[attr-defined]
        assert [cache() for cache in caches] == [None] * len(caches)
    finally:
        gc.enable()


def test_the_uniform_is_a_number_that_other_machines_draw_too() -> None:
    drawn = [Sampling((), 1, seed=7).uniform(row, position) for row in range(40) for position in range(25)]
    assert Sampling((), 1, seed=7).uniform(0, 1) != Sampling((), 1, seed=7).uniform(1, 0)
    assert len(set(drawn)) == 1000
    assert abs(np.mean(drawn) - 0.5) < 0.03
    assert drawn[0] == pytest.approx(UNIFORM_7_0_0, abs=1e-15)


UNIFORM_7_0_0 = 0.8720734548204873


def test_sampled_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]]).expand(4000, 4)
    uniforms = [Sampling((), 1, seed=1).uniform(row, 0) for row in range(4000)]
    drawn = generation.draw(logits, uniforms, Sampling((), 1, temperature=1.0))
    expected = torch.softmax(logits[0].double(), 0).numpy()
    assert np.max(np.abs(np.bincount(drawn.numpy(), minlength=4) / 4000 - expected)) < 0.02
    nucleus = generation.draw(logits, uniforms, Sampling((), 1, temperature=1.0, top_p=0.6))
    assert set(nucleus.tolist()) == {3}


def test_running_out_of_memory_says_what_to_change() -> None:
    with pytest.raises(ResourceError, match=r"train\.rows=1") as caught, memory_or_error(CPU, "training"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert caught.value.exit_code == 4
    with pytest.raises(RuntimeError, match="something else"), memory_or_error(CPU, "training"):
        raise RuntimeError("something else")


def test_opening_is_silent_and_a_probe_needs_only_torch(models: Models) -> None:
    code = f"""
import sys
from localtune.backend import *
from localtune.adapter import Lora
from localtune.objectives import SFT
from tests.contract.conftest import *
from pathlib import Path
backend = load_backend("torch")
backend.probe()
assert not {{"peft", "bitsandbytes"}} & sys.modules.keys()
files = files_of(Path({str(models("llama").folder)!r}))
backend.open(files, LORA, None, precision=NF4, objective=SFT, optimizer=PLAIN, memory=ROOMY, seed=1)
"""
    needs(NF4)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "backends")])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_on_a_card_the_allocator_is_held_to_the_limit_while_a_session_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    card, shares = torch.device("cuda", 0), []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (6 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, _: shares.append(share))
    for limit in (2 * 10**9, 9 * 10**9, 0):
        with within(card, limit):
            shares.append(-1.0)
    assert shares == [0.25, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0]
    with pytest.raises(RuntimeError, match="torn"), within(card, 10**9):
        raise RuntimeError("torn")
    with within(CPU, 10**9):
        assert shares[-2:] == [0.125, 1.0]


def test_the_limit_holds_from_opening_to_the_end_of_a_session(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    @contextmanager
    def spy(_: torch.device, limit: int) -> Iterator[None]:
        heard.append(f"limit {limit}")
        try:
            yield
        finally:
            heard.append("lifted")

    monkeypatch.setattr(torch_backend, "within", spy)
    with opened(models, "llama", memory=MemorySpec(5)) as session:
        session.score(BATCH)
        assert heard == ["limit 5"]
    assert heard == ["limit 5", "lifted"]
    with pytest.raises(InputError):
        opened(models, "llama", Lora(4, 8.0, targets=("c_attn",)), memory=MemorySpec(6))
    assert heard[2:] == ["limit 6", "lifted"]


def test_more_than_the_limit_of_a_card_is_an_error_that_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (6 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 0.25)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 19 * 10**8)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    card = torch.device("cuda", 0)
    with pytest.raises(ResourceError, match=r"this run may use 2\.0 GB") as caught, memory_or_error(card, "training"):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    assert "train.memory_limit" in caught.value.problems[0].fix
    assert "1.9 GB" in caught.value.problems[0].evidence


def in_bfloat16(files: ModelFiles, folder: Path) -> ModelFiles:
    """The model `files` as a checkpoint in bfloat16."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    tensors = load_file(files.folder / "model.safetensors")
    rounded = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((files.folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}), encoding="utf-8")
    return resolve(str(folder), folder, offline=True)


PRODUCT_PRECISIONS = [FLOAT32, Precision("float32", "bfloat16"), BFLOAT16]


@pytest.mark.parametrize("precision", PRODUCT_PRECISIONS, ids=lambda p: f"{p.storage}-{p.compute}")
@pytest.mark.parametrize("family", ["llama", "llama-tied", "gemma2", "qwen3-moe"])
def test_the_product_of_a_full_fine_tune_says_what_its_rounded_weights_say(
    models: Models, tmp_path: Path, family: str, precision: Precision
) -> None:
    base = in_bfloat16(models(family), tmp_path / "base")
    folder = tmp_path / "model"
    folder.mkdir()
    plain: dict[str, Any] = {"objective": SFT, "optimizer": PLAIN, "memory": ROOMY, "seed": 7}
    trained_in = Precision("float32", precision.compute)
    with TorchBackend().open(base, Full(), None, precision=trained_in, **plain) as session:
        session.train_step([BATCH], step=0, lr=1e-3)
        live = everything_said(session)
        session.save(folder, state=False)
        for parameter in session.transformer.parameters():
            rounded = parameter.data.bfloat16()
            parameter.data = rounded if precision.storage == "bfloat16" else rounded.float()
        expected = everything_said(session)
    (folder / "config.json").write_bytes((base.folder / "config.json").read_bytes())
    product = resolve(str(folder), folder, offline=True)
    assert {tensor.dtype for tensor in product.tensors} == {"BF16"}
    plain |= {"objective": None, "optimizer": None}
    with TorchBackend().open(product, Nothing(), None, precision=precision, **plain) as session:
        np.testing.assert_array_equal(everything_said(session), expected)
    assert np.any(live != expected)  # what the live session says is not what the product says


def everything_said(session: TorchSession) -> Any:
    tokens = segment(12, 5).tokens.tolist()
    return np.concatenate([session.logits(tokens, range(12)).ravel(), session.score(BATCH).nll])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_counts_its_own_peak(models: Models) -> None:
    session = opened(models, "llama")
    result = session.train_step([BATCH], step=0, lr=1e-2)
    assert torch.cuda.max_memory_allocated() <= result.peak_bytes == torch.cuda.max_memory_reserved()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_gives_no_more_than_the_limit_and_all_of_it_afterwards(models: Models) -> None:
    limit = 200 * 10**6
    with opened(models, "llama", memory=MemorySpec(limit)) as session:
        with pytest.raises(ResourceError, match=r"may use 0\.2 GB"), memory_or_error(session.device, "training"):
            torch.empty(2 * limit, dtype=torch.uint8, device=session.device)
        assert session.train_step([BATCH], step=0, lr=1e-2).peak_bytes <= limit
    assert torch.empty(2 * limit, dtype=torch.uint8, device="cuda").nbytes == 2 * limit
