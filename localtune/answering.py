"""Which backend answers with a model that no run has planned, and how long a text it reads as the model does.

Every backend is asked what it refuses before anything is loaded. One that refuses is passed over, or asked for a
shorter text. Nothing answers that would be another model than the files say.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from localtune.backend import Backend, Device, Refusal, Settings, in_order, installation
from localtune.defaults import share
from localtune.errors import InputError, MachineError, Problem
from localtune.model import ModelFiles
from localtune.probe import Probe

LENGTH = "data.max_tokens"
"""The setting by which a backend refuses texts that are too long for it."""
Wanted = Callable[[Device], Sequence[Settings]]
"""What is asked of a backend on its device: the first that it does not refuse."""


def willing(model: ModelFiles, wanted: Wanted, backends: Sequence[str] | None = None) -> tuple[Device, Settings]:
    """The first of `backends`, by default all in order, that computes `model` as it is, and with which settings.

    Raises `InputError` with the refusals of all that can be used, `MachineError` where none can.
    """
    unusable: list[Device] = []
    refused: list[tuple[Device, Sequence[Refusal]]] = []
    with ExitStack() as stack:
        for name in in_order() if backends is None else backends:
            probe = stack.enter_context(Probe(name))
            if probe.device.kind == "none":
                unusable.append(probe.device)
                continue
            refusals: Sequence[Refusal] = ()
            for settings in wanted(probe.device):
                refusals = probe.refusals(model, settings)
                if not refusals:
                    return probe.device, settings
            refused.append((probe.device, refusals))
    if not refused:
        raise _unusable(unusable)
    raise _refused(refused, unusable)


def by_length(model: ModelFiles, settings: Settings) -> list[Settings]:
    """`settings` for one text as long as `model` reads, then for every shorter one at which it begins to differ.

    It does behind its sliding window, and behind the context that its rotary scaling started from.
    """
    most = model.config.context
    original = (model.config.rope_scaling or {}).get("original_max_position_embeddings")
    bounds = {int(bound) for bound in (model.config.sliding_window, original) if bound and bound < most}
    return [replace(settings, max_tokens=tokens, packed=False) for tokens in (most, *sorted(bounds, reverse=True))]


def context_on(backend: Backend, model: ModelFiles, settings: Settings) -> int:
    """Tokens of one conversation that `backend` reads as `model` does, however long a run's rows were."""
    found = by_length(model, settings)
    for asked in found:
        if all(refusal.setting != LENGTH for refusal in backend.supports(model, asked)):
            return asked.max_tokens
    return min(settings.max_tokens, found[-1].max_tokens)


def usable_memory(device: Device) -> int:
    """Bytes of the device that a session may use: the share that a run may."""
    return int(device.memory_limit * share(device))


def _unusable(devices: Sequence[Device]) -> MachineError:
    reasons = "; ".join(f"{device.backend}: {device.reason}" for device in devices)
    return MachineError(Problem("backend.unusable", reasons, fix=_installing(devices[:1]) or "localtune doctor"))


def _refused(refused: Sequence[tuple[Device, Sequence[Refusal]]], unusable: Sequence[Device]) -> InputError:
    """One problem per refusal; no option can be given here, so what one would mend needs another backend or model."""
    other = _installing(unusable) or "name another model, or the one in 16 bits that this was made from"
    problems = []
    for device, refusals in refused:
        for refusal in refusals:
            fix = other if refusal.fix.startswith("--") else refusal.fix or other
            what = f"{refusal.setting}: {refusal.reason}"
            problems.append(Problem("backend.refused", what, device.backend, fix=fix))
    return InputError(*problems)


def _installing(devices: Sequence[Device]) -> str:
    absent = [device.backend for device in devices if "not installed" in device.reason]
    return "   or   ".join(map(installation, absent))
