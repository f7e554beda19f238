"""A draft as a file: where it goes, how it is written whole or not at all, and the user's own editor on it."""

import os
import shlex
import subprocess
from pathlib import Path

from textual.app import App, SuspendNotSupported

from localtune.errors import LocaltuneError
from localtune.recipe import safe_name
from localtune.recipe.shipped import shipped
from localtune.runs.files import write_bytes
from localtune.runs.store import root
from localtune_tui.draft import Draft
from localtune_tui.run_rows import stem


def file_for(draft: Draft, folder: Path) -> Path:
    """Where the recipe of `draft` is written: the file that was opened, else one named after the run in `folder`.

    A recipe that came with localtune, and what a run has kept of its own, is not written over; a copy of it goes into
    `folder`.
    """
    if draft.file is not None and not _is_kept(draft.file):
        return draft.file
    named = draft.changes.get("name") or (stem(draft.file.parent.name) if draft.file else Path(draft.data).stem)
    return folder / f"{safe_name(named)}.yaml"


def _is_kept(file: Path) -> bool:
    """Whether `file` is a recipe of localtune itself or lies in the folder of runs, the record of one."""
    return file in {one.path for one in shipped().values()} or file.resolve().is_relative_to(root().resolve())


def write(draft: Draft, path: Path) -> str:
    """Write the recipe of `draft` to `path`; what went wrong in a sentence, empty where nothing did. Reads the disk."""
    try:
        text = draft.text(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode("utf-8"))
    except LocaltuneError as error:
        return str(error)
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}"
    return ""


def editor() -> list[str]:
    """The user's editor as a command: VISUAL, EDITOR, or what the system has."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    try:
        return shlex.split(named, posix=os.name == "posix") or ["vi"]
    except ValueError:
        return [named]


def edit(app: App[int], path: Path) -> str:
    """Open `path` in the user's editor, with the terminal its own until it ends; what went wrong, or ""."""
    command = [*editor(), str(path)]
    try:
        with app.suspend():
            code = subprocess.run(command, check=False).returncode
    except SuspendNotSupported:
        return f"this terminal cannot be lent to an editor; open {path} yourself: it is read again when it changes"
    except OSError as error:
        return f"{command[0]} cannot be started ({error.strerror}); EDITOR names another one"
    return f"{command[0]} ended with {code}" if code else ""
