"""What a model is called: the owner and the last part of a name, and whether two names may mean one model.

A name is compared as far as it can be: ids of the hub whole but for their @revision, folders as what they are or by
their last part, a hub id and a folder by the last part. A folder of the hub's cache is what it holds.
"""

import os
import re
from pathlib import PurePath

_HUB_ID = re.compile(r"([\w.-]+)/([\w.-]+?)(?:@.*)?", re.ASCII)
_CACHED = re.compile(r"models--(?:([\w.-]+?)--)?([\w.-]+)", re.ASCII)


def cached(path: str) -> str | None:
    """The hub id of which `path` is a snapshot in the hub's cache; None for any other path."""
    found = next(filter(None, map(_CACHED.fullmatch, _parts(path))), None)
    return "/".join(filter(None, found.groups())) if found else None


def title(name: str) -> tuple[str, str]:
    """Owner, "" where it is not known, and last part, "" where that says nothing, of a hub id or a folder.

    Both are folded, for the hub takes "ORG/model" for "org/Model".
    """
    match = None if os.path.isdir(name) else _HUB_ID.fullmatch(name)
    whole = "/".join(match.groups()) if match else cached(name)
    owner, _, last = (whole or next(iter(_parts(name)[-1:]), "")).rpartition("/")
    return owner.casefold(), "" if last in (".", "..") else last.casefold()


def may_be_one(one: str, other: str) -> bool:
    """Whether two names may mean one model: nothing in them says otherwise."""
    if one == other or (os.path.isdir(one) and os.path.isdir(other) and os.path.samefile(one, other)):
        return True
    (owner, name), (other_owner, other_name) = title(one), title(other)
    if not name or not other_name:
        return True
    return name == other_name and not (owner and other_owner and owner != other_owner)


def _parts(path: str) -> tuple[str, ...]:
    return PurePath(path.replace("\\", "/").rstrip("/")).parts
