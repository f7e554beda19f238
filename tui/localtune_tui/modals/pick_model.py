"""A base model: what is on this machine first, each with its size and whether it can be trained here; then the hub's.

Whether it fits is a quick estimate from the size of its files; the plan says it exactly. Nothing is downloaded here.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from localtune.sizes import readable
from localtune_tui.cache import CachedModel, cached_models
from localtune_tui.modals.pick import Entry, Pick, fits

_ROOM = 1_500_000_000
"""Libraries and activations of a small batch."""
_LORA, _QLORA = 1.25, 0.4
"""Memory by bytes of 16-bit weights: with adapter and gradients; with the base in 4 bit."""
_MEMORY = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,3})?) GB$")
_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
FOUND = 15
"""Models of the hub that are shown."""

Verdict = Literal["fits", "tight: QLoRA", "too big", ""]


class PickModel(Pick):
    """Comes back with a hub id or a folder."""

    HELP = (
        "Type a few letters of a model's name, a hub id, or the path of a folder. Models on this machine come first. "
        "fits, tight and too big are quick estimates; the plan says it exactly. Nothing is downloaded here."
    )
    question = "Which base model?"
    placeholder = "letters of its name, org/name, or a folder"

    def __init__(self, limit: int, typed: str = "", *, known: Sequence[Entry] = ()) -> None:
        """`limit`: bytes a run may use, 0 = not known; `known`: models that are not in the cache, such as a folder."""
        super().__init__(typed)
        self._limit, self._known = limit, known
        self._cached: Sequence[CachedModel] | None = None

    def found(self, typed: str, gone: Callable[[], bool]) -> Sequence[Entry]:
        """The cache's, then the hub's for what is typed."""
        as_typed, typed = typed, typed.strip()
        if self._cached is None:
            self.say("looking what is on this machine …")
            self._cached = cached()
        here = [Entry(one.name, one.name, self._note(one.size, "here")) for one in self._cached]
        listed = [entry for entry in [*self._known, *here] if fits(typed, entry.label) is not None]
        listed.sort(key=lambda entry: fits(typed, entry.label) or 0)
        folder = Path(os.path.expanduser(typed))
        if typed and folder.is_dir() and (folder / "config.json").is_file():
            listed.insert(0, Entry(str(folder), typed, self._note(_weights(folder), "folder")))
        if len(typed) < 3 or os.path.isabs(typed) or typed.startswith((".", "~")) or gone():
            self.say("" if listed else "no model is on this machine yet: type a name to look for it on the hub")
            return listed
        self.show_first(as_typed, listed)
        return [*listed, *self._hub(typed, {entry.value for entry in listed})]

    def _hub(self, typed: str, known: set[str]) -> Sequence[Entry]:
        """The hub's models that are not `known`; last what is typed, where it is a whole name that nobody has."""
        self.say("asking the hub …")
        try:
            models = search(typed)
        except OSError as error:
            self.say(f"only what is on this machine: {error}")
            models = ()
        else:
            self.say("")
        listed = [Entry(name, name, self._note(size, "hub")) for name, size in models if name not in known]
        named = {name.casefold() for name in (*known, *(entry.value for entry in listed))}
        is_other = _NAME.fullmatch(typed) and typed.casefold() not in named
        return [*listed, Entry(typed, typed, "as typed")] if is_other else listed

    def _note(self, size: int, where: str) -> str:
        told = f"{readable(size)}  " if size else ""
        return f"{told}{verdict(size, self._limit):<12}  {where}"


def verdict(size: int, limit: int) -> Verdict:
    """Whether a model whose 16-bit weights are `size` bytes can be trained within `limit`; "" where one is unknown."""
    if not size or not limit:
        return ""
    if _LORA * size + _ROOM <= limit:
        return "fits"
    return "tight: QLoRA" if _QLORA * size + _ROOM <= limit else "too big"


def memory_of(machine: str) -> int:
    """Bytes that a run may use, of the words for a machine such as "torch · RTX 4090 · 24.0 GB"; 0 for not known."""
    found = _MEMORY.search(machine)
    return int(float(found[1]) * 1e9) if found else 0


def cached() -> Sequence[CachedModel]:
    """Models of the hub's cache that can be trained, by name; none where it cannot be read. Reads the disk."""
    try:
        models = cached_models()
    except OSError:
        return ()
    return sorted((model for model in models if model.weights), key=lambda model: model.name.casefold())


def search(typed: str) -> Sequence[tuple[str, int]]:
    """(Name, bytes of its 16-bit weights or 0) of the hub's models for `typed`. Raises `OSError` that says why not."""
    import huggingface_hub as hub

    if hub.is_offline_mode():
        raise OSError("the hub is switched off (HF_HUB_OFFLINE)")
    try:
        models = hub.HfApi().list_models(
            search=typed, filter=["text-generation", "safetensors"], limit=FOUND, expand=["safetensors", "downloads"]
        )
        return [(model.id, 2 * (model.safetensors.total if model.safetensors else 0)) for model in models]
    except Exception as error:  # whatever the network or the hub does; its own text may hold what no screen should
        raise OSError(f"the hub cannot be asked ({type(error).__name__})") from None


def _weights(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    except OSError:
        return 0
