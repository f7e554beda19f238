"""Model folders for these tests: the quickstart's files with another chat template."""

import json
import shutil
from pathlib import Path

from localtune.data.tokenizer import Tokenizer
from localtune.model import ModelFiles, resolve
from tests.command import MODEL


def with_template(folder: Path, template: str, **config: str | bool) -> Tokenizer:
    """The quickstart's tokenizer with this template and these keys of its configuration, in the new folder `folder`."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(MODEL / name, folder / name)
    stated = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(stated | config), "utf-8")
    (folder / "chat_template.jinja").write_text(template, "utf-8", newline="\n")
    return Tokenizer(folder)


def quickstart() -> tuple[ModelFiles, Tokenizer]:
    """The quickstart's own model."""
    return resolve(str(MODEL), MODEL, offline=True), Tokenizer(MODEL)
