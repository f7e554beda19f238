"""What the machine of a run does now: memory, load, power and heat, read by the app while the run is shown and alive.

A card is asked through `nvidia-smi`, a Mac through `ioreg`, on a processor the run's own process is looked at. What
cannot be read is None; nothing is guessed. Bytes, watts, degrees Celsius, load as a share of 1.
"""

import math
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from localtune_tui.amounts import bar
from localtune_tui.asking import children, end_child

EVERY = 2.0
"""Seconds between two readings."""
PATIENCE = 2.0
"""Seconds that a program has for its answer; one that takes longer is not asked again."""
LONGEST = 1 << 16
"""Bytes of an answer that are read."""
FIELDS = ("uuid", "utilization.gpu", "memory.used", "power.draw", "temperature.gpu")
SLOWED = ("clocks_throttle_reasons.hw_thermal_slowdown", "clocks_throttle_reasons.sw_thermal_slowdown")
"""Not known to every driver, which then refuses the whole question."""
_APPLE = {
    name: re.compile(rf'"{re.escape(said)}"\s*=\s*(\d{{1,18}})\b')
    for name, said in (("load", "Device Utilization %"), ("memory", "In use system memory"))
}


@dataclass(frozen=True)
class Reading:
    """The machine at one moment."""

    memory: int | None = None
    """In use: of the card, of the Mac's graphics, or of the process that trains on a processor."""
    load: float | None = None
    """Of the card or graphics; of all processors together, by the process that trains."""
    watts: float | None = None
    celsius: float | None = None
    slowed: bool = False
    """Whether the card holds back because it is too hot."""


class Source(Protocol):
    """Where readings come from."""

    def read(self, pid: int) -> Reading:
        """The machine now, for the run that process `pid` trains; may take some seconds."""


class Meter:
    """The newest reading of one run's machine; a thread that ends with the app renews it."""

    def __init__(self, kind: str) -> None:
        """`kind`: of the run's device, as its plan says."""
        self.kind = kind
        self.reading = Reading()
        self._source = SOURCES[kind]() if kind in SOURCES else None
        self._due = 0.0
        self._busy = False

    def look(self, pid: int | None) -> None:
        """Begin a reading when it is time for one; returns at once. None = nobody trains: nothing is read."""
        if pid is None:
            self.reading = Reading()
        elif self._source is not None and not self._busy and time.monotonic() >= self._due:
            self._busy, self._due = True, time.monotonic() + EVERY
            threading.Thread(target=self._read, args=(self._source, pid), daemon=True).start()

    def _read(self, source: Source, pid: int) -> None:
        try:
            self.reading = source.read(pid)
        finally:
            self._busy = False


class Processor:
    """The process that trains, as the system counts it."""

    def __init__(self) -> None:
        self._process: psutil.Process | None = None

    def read(self, pid: int) -> Reading:
        """Its memory, and its load since the last reading."""
        try:
            known = self._process is not None and self._process.pid == pid
            process = self._process if known and self._process is not None else psutil.Process(pid)
            self._process, busy = process, process.cpu_percent()
            load = min(1.0, busy / 100 / (os.cpu_count() or 1)) if known else None
            return Reading(int(process.memory_info().rss), load)
        except (psutil.Error, OSError):
            self._process = None
            return Reading()


class Apple:
    """The graphics of a Mac."""

    def __init__(self) -> None:
        self._program = Program("ioreg")

    def read(self, pid: int) -> Reading:
        """Its load, and the memory that it uses."""
        said = self._program.answer("-r", "-d", "1", "-w", "0", "-c", "IOAccelerator") or ""
        found = {name: match[1] for name, pattern in _APPLE.items() if (match := pattern.search(said))}
        load, memory = number(found.get("load", ""), 100), number(found.get("memory", ""), 1e15)
        return Reading(None if memory is None else int(memory), None if load is None else load / 100)


class Nvidia:
    """The card that the run trains on."""

    def __init__(self) -> None:
        self._program = Program("nvidia-smi")
        self._fields: tuple[str, ...] = (*FIELDS, *SLOWED)

    def read(self, pid: int) -> Reading:
        """Of several cards that on which process `pid` has memory; nothing where that is not known."""
        said = self._program.answer(f"--query-gpu={','.join(self._fields)}", "--format=csv,noheader,nounits")
        if said is None:
            self._fields = FIELDS
            return Reading()
        rows = card_rows(said, self._fields)
        if len(rows) > 1:
            mine = self._card_of(pid)
            rows = [row for row in rows if row["uuid"] == mine]
        return card_reading(rows[0]) if rows else Reading()

    def _card_of(self, pid: int) -> str:
        said = self._program.answer("--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader,nounits") or ""
        pairs = (line.split(",") for line in said.splitlines() if line.count(",") == 1)
        return next((card.strip() for who, card in pairs if who.strip() == str(pid)), "")


SOURCES: Mapping[str, type[Processor] | type[Apple] | type[Nvidia]] = {
    "cpu": Processor,
    "metal": Apple,
    "cuda": Nvidia,
}
"""By kind of device, as a plan names it."""


class Program:
    """A program that is asked again and again, until it hangs."""

    def __init__(self, name: str) -> None:
        self._path = shutil.which(name)

    def answer(self, *arguments: str) -> str | None:
        """What it says; None where it does not answer."""
        if self._path is None:
            return None
        try:
            return _said([self._path, *arguments])
        except TimeoutError:
            self._path = None
        except (OSError, ValueError):
            pass  # it cannot be started now
        return None


def _said(command: Sequence[str]) -> str | None:
    """What `command` says, None where it fails; after `PATIENCE` seconds it is ended, and that is a `TimeoutError`."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=os.name == "posix",
    )
    children.add(child)
    late = threading.Event()

    def give_up() -> None:
        late.set()
        end_child(child)

    end = threading.Timer(PATIENCE, give_up)
    end.daemon = True
    end.start()
    try:
        with child:
            assert child.stdout is not None
            said = child.stdout.read(LONGEST).decode("utf-8", "replace")
            code = child.wait()
    finally:
        end.cancel()
        children.discard(child)
    if late.is_set():
        raise TimeoutError
    return None if code else said


def card_rows(said: str, fields: Sequence[str]) -> list[dict[str, str]]:
    """The lines of an answer of `nvidia-smi` that have all `fields`."""
    lines = [[part.strip() for part in line.split(",")] for line in said.splitlines()]
    return [dict(zip(fields, line, strict=True)) for line in lines if len(line) == len(fields)]


def card_reading(row: Mapping[str, str]) -> Reading:
    """A card's line; "[N/A]" and whatever else is no number is left out. `nvidia-smi` counts memory in MiB."""
    load, used = number(row["utilization.gpu"], 100), number(row["memory.used"], 1e9)
    return Reading(
        None if used is None else int(used) << 20,
        None if load is None else load / 100,
        number(row["power.draw"], 10_000),
        number(row["temperature.gpu"], 200),
        any(row.get(name) == "Active" for name in SLOWED),
    )


def number(text: str, most: float) -> float | None:
    """The number that `text` is, between 0 and `most`."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) and 0 <= found <= most else None


def gauge_lines(reading: Reading, kind: str, width: int, *, ascii_only: bool = False) -> list[str]:
    """The lines below memory: "gpu    █████████████▋░ 92%" and "power  31 W   temp 71°C"; what is not known is not."""
    lines = []
    if reading.load is not None:
        end = f" {reading.load:.0%}"
        lines.append(f"{_name(kind):<6} {bar(reading.load, max(6, width - len(end) - 7), ascii_only=ascii_only)}{end}")
    heat = [f"power  {reading.watts:.0f} W"] if reading.watts is not None else []
    warm = _heat(reading, ascii_only)
    heat += [warm if reading.celsius is None else f"temp {warm}"] if warm else []
    return [*lines, "   ".join(heat)] if heat else lines


def gauge_words(reading: Reading, kind: str, *, ascii_only: bool = False) -> list[str]:
    """The same for a small terminal: "gpu 92%", "31 W", "71°C"."""
    words = [f"{_name(kind)} {reading.load:.0%}"] if reading.load is not None else []
    words += [f"{reading.watts:.0f} W"] if reading.watts is not None else []
    warm = _heat(reading, ascii_only)
    return [*words, warm] if warm else words


def _name(kind: str) -> str:
    return "cpu" if kind == "cpu" else "gpu"


def _heat(reading: Reading, ascii_only: bool) -> str:
    if reading.celsius is None:
        return "throttled by heat" if reading.slowed else ""
    return f"{reading.celsius:.0f}{' ' if ascii_only else '°'}C{', throttled' if reading.slowed else ''}"
