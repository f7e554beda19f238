"""What cannot be exported is said with the command that makes it so."""

import json
from pathlib import Path

import pytest

from localtune.cli.export import _Asked, _exporting
from localtune.errors import InputError
from localtune.products.gguf import NO_TOOLS
from tests.command import returned


@pytest.mark.parametrize(("base", "model"), [("org/base", "org/base"), (None, "MODEL")])
def test_an_adapter_folder_is_told_to_be_fused_first(tmp_path: Path, base: str | None, model: str) -> None:
    folder = tmp_path / "peft"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="is an adapter") as caught:
        returned(_exporting(str(folder), _Asked(["Q8_0"], None, True, NO_TOOLS, (), None)))
    assert f"localtune fuse {folder} -m {model} -o FUSED" in caught.value.problems[0].fix
