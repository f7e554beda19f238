"""LM Studio: a GGUF in its folder of models, as <publisher>/<model>/<file>.gguf, which is the only place it looks.

Its home is what ~/.lmstudio-home-pointer names, else ~/.lmstudio; its models lie in `downloadsFolder` of the
settings.json there, else in models. A file is linked where both lie on one disk, so that it takes no space twice.
"""

import os
import unicodedata
from contextlib import suppress
from pathlib import Path

from localtune.durable import FULL, NoRoom, copy, require_room, sha256
from localtune.errors import InputError, MachineError, Problem, ResourceError
from localtune.model.json_object import read_object

PUBLISHER = "localtune"
_MOST = 120
"""Bytes of a model's name in UTF-8: with the file's own, the path stays one that Windows opens."""


def models_folder(home: Path | None = None) -> Path:
    """Where LM Studio keeps models. Raises `MachineError` where it was never started for this user."""
    user = home or Path.home()
    there = _pointed(user / ".lmstudio-home-pointer") or user / ".lmstudio"
    if not there.is_dir():
        what, fix = "LM Studio was never started here", "start it once, or move the file by hand with  lms import FILE"
        raise MachineError(Problem("lm-studio.missing", what, str(there), fix=fix))
    with suppress(InputError):
        chosen = read_object(there / "settings.json").get("downloadsFolder")
        if isinstance(chosen, str) and Path(chosen).is_absolute():
            return Path(chosen)
    return there / "models"


def check_name(name: str) -> None:
    """Raise `InputError` (lm-studio.name) for what is no folder's name on every system: of any script, not hidden."""
    known = all(c.isalnum() or c in "._-" or unicodedata.category(c)[0] == "M" for c in name)
    if not name or not known or name[0] in ".-" or len(name.encode()) > _MOST:
        fix = f"--name of letters, digits, dots, dashes and underscores, at most {_MOST} bytes"
        raise InputError(Problem("lm-studio.name", "cannot be a folder of LM Studio's", name, fix=fix))


def place(gguf: Path, *, model: str | None = None, home: Path | None = None) -> Path:
    """Put the file `gguf` where LM Studio finds it, under the name of `model`; returns the place.

    The default is its own name, cut where that is too long.

    The same file there already is left; another one is never replaced. Raises `InputError` (lm-studio.name, .exists),
    `MachineError` (lm-studio.missing, .system) or `ResourceError` (disk.full).
    """
    name = gguf.stem.encode()[:_MOST].decode("utf-8", "ignore").rstrip("-.") if model is None else model
    check_name(name)
    target = models_folder(home) / PUBLISHER / name / gguf.name
    try:
        if target.exists() or target.is_symlink():
            _refuse_another(gguf, target)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(gguf, target)
    except OSError as error:
        raise _refused(target, error) from None
    return target


def _pointed(pointer: Path) -> Path | None:
    """The folder that the first line of the file `pointer` names, if it is one."""
    try:
        named = Path(pointer.read_text(encoding="utf-8").splitlines()[0].strip())
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    return named if named.is_absolute() and named.is_dir() else None


def _refuse_another(gguf: Path, target: Path) -> None:
    same = target.is_file() and (
        os.path.samefile(gguf, target)
        or (gguf.stat().st_size == target.stat().st_size and sha256(gguf) == sha256(target))
    )
    if not same:
        what = "another file of that name is there"
        raise InputError(Problem("lm-studio.exists", what, str(target), fix="move it away, or another  --name"))


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name of the same file, else a copy that has its name only when it is complete."""
    try:
        os.link(source, target)
        return
    except FileExistsError:
        raise
    except OSError:  # another disk, or a file system without links
        pass
    require_room(target.parent, source.stat().st_size)
    copy(source, target)


def _refused(target: Path, error: OSError) -> Exception:
    if error.errno in FULL:
        needed = f": {error.strerror}" if isinstance(error, NoRoom) else ""
        what = f"no space is left on LM Studio's disk{needed}"
        return ResourceError(Problem("disk.full", what, str(target.parent), fix="free some space"))
    what = f"cannot be written: {error.strerror or error}"
    return MachineError(Problem("lm-studio.system", what, str(target), fix="check that you may write into its folder"))
