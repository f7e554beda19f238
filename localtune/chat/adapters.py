"""LoRA files beside a GGUF: which there are, what they are called, and how much each counts.

A name is the file's, without `.gguf`. To begin with the first counts in full and the others not at all.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localtune.adapter import CONFIG_FILE
from localtune.errors import InputError, Problem
from localtune.export.fingerprint import same_base
from localtune.export.read import read_gguf
from localtune.llamacpp.server import MOST
from localtune.typed import typed

_EXPORT = "localtune export RUN --adapter  writes it as a GGUF file"


@dataclass
class Adapters:
    """At least one adapter."""

    paths: tuple[Path, ...]
    scales: list[float] = field(default_factory=list)
    """How much each counts now: 1 = as trained, 0 = off."""
    notes: tuple[str, ...] = ()
    """What a user should know of them, one sentence each."""

    def __post_init__(self) -> None:
        self.scales = self.scales or [1.0, *[0.0] * (len(self.paths) - 1)]

    @property
    def names(self) -> tuple[str, ...]:
        """What each is called; no two alike."""
        return tuple(path.stem for path in self.paths)

    def choose(self, text: str) -> None:
        """Let those count that `text` names, and no others: a name or number, "off", or "A=0.7,B=0.3".

        Raises `InputError`, with nothing changed, for a name that is none and a number out of range.
        """
        if text in self.names or text != "off":
            whole = [text] if text in self.names else [part.strip() for part in text.split(",")]
            self.scales = self.of(dict(self._counted(part) for part in whole))
        else:
            self.scales = [0.0] * len(self.paths)

    def of(self, wanted: Mapping[str, float]) -> list[float]:
        """The scale of each adapter; those that `wanted` does not name are off. Raises `InputError`."""
        for name, scale in wanted.items():
            if name not in self.names:
                raise InputError(_unknown(name, self.names))
            if not abs(scale) <= MOST:
                what = f"{name} cannot count {scale:g} times; from {-MOST:g} to {MOST:g}"
                raise InputError(Problem("chat.lora", what, fix=f"/lora {name}=1"))
        return [float(wanted.get(name, 0.0)) for name in self.names]

    def lines(self) -> list[str]:
        """One line each: number, name, and how much it counts."""
        counts = ("off" if scale == 0 else "on" if scale == 1 else f"x {scale:g}" for scale in self.scales)
        return [f"{i}  {name}  {count}" for i, (name, count) in enumerate(zip(self.names, counts, strict=True), 1)]

    def _counted(self, part: str) -> tuple[str, float]:
        """Name and scale of one part; a name alone counts in full."""
        name, equals, number = part.rpartition("=")
        if part in self.names or not equals:
            return self._named(part), 1.0
        try:
            return self._named(name.strip()), float(number)
        except ValueError:
            what = f"{number.strip()!r:.60} is no number"
            raise InputError(Problem("chat.lora", what, fix=f"/lora {self.names[0]}=0.5")) from None

    def _named(self, name: str) -> str:
        if name not in self.names and name.isdecimal() and 1 <= int(name[:9]) <= len(self.names):
            return self.names[int(name) - 1]
        return name


def read_adapters(paths: Sequence[str], base: Path) -> Adapters | None:
    """The adapters in the files `paths` for the GGUF `base`, None where there are none.

    Raises `InputError` for a file that is no LoRA, two of one name, and one that was trained on another model, where
    both files say on which (see `export.fingerprint`); whether the shapes fit, llama.cpp says.
    """
    found = tuple(_checked(path) for path in paths)
    names = [path.stem for path in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(Problem("chat.lora", f"two adapters are called {twice}", fix="rename one of the files"))
    return Adapters(found, notes=_notes(found, base)) if found else None


def _checked(name: str) -> Path:
    path = Path(os.path.expanduser(name))
    if (path / CONFIG_FILE).is_file():
        raise InputError(Problem("chat.lora", "is an adapter's folder; llama.cpp reads a file", name, fix=_EXPORT))
    if not path.is_file():
        raise InputError(Problem("chat.lora", "there is no such adapter file", name, fix=_EXPORT))
    stated = read_gguf(path).metadata
    if stated.get("general.type") != "adapter":
        what = "is a model, not an adapter"
        raise InputError(Problem("chat.lora", what, name, fix=f"localtune chat {typed(name)}  talks to it"))
    alpha = stated.get("adapter.lora.alpha", 0.0)
    if stated.get("adapter.type") != "lora" or not (isinstance(alpha, float) and math.isfinite(alpha)):
        what = "is an adapter of a kind that is not known here, or damaged"
        raise InputError(Problem("chat.lora", what, name, fix="only LoRA adapters can be loaded"))
    return path


def _notes(adapters: Sequence[Path], base: Path) -> tuple[str, ...]:
    """Which adapters may be of another base, as far as the files say. Raises `InputError` where one is."""
    of_base, unknown = read_gguf(base).metadata, []
    for path in adapters:
        stated = read_gguf(path).metadata
        same = same_base(of_base, stated)
        if same is False:
            trained = stated.get("general.base_model.0.name") or "the model that it was trained on"
            what = f"was trained on another model than {base.name}: their weights differ where no LoRA changes them"
            raise InputError(Problem("chat.lora", what, str(path), fix=f"name a GGUF of {trained}"))
        if same is None:
            unknown.append(path.name)
    if not unknown:
        return ()
    return (
        f"nothing says whether {', '.join(unknown)} was trained on {base.name}; on another model it talks nonsense",
    )


def _unknown(name: str, names: Sequence[str]) -> Problem:
    there = ", ".join(f"{i} {known}" for i, known in enumerate(names, 1))
    return Problem("chat.lora", f"no adapter is called {name!r:.80}; there are {there}", fix=f"/lora {names[0]}")
