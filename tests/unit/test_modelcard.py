"""What the head of a README states, for the card of a fused model and for the keys of a GGUF alike."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.modelcard import stated, stated_licence

MIT = {"license": "mit"}


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        ("\ufeff---\nlicense: mit\n---\n", MIT),
        ("---\r\nlicense: 'mit'\r\n---\r\ntext", MIT),
        ('---\nlicense: "mit" # see\n---\n', MIT),
        ("---\nlicense: # comment\n  mit\n---\n", MIT),
        ("---\nlicense:\n- mit\n---\n", {"license": ["mit"]}),
        ("---\ntags:\n- a\n# - b\nlicense: mit\n---\n", {"tags": ["a"]} | MIT),
        ("---\nlanguage: no\nlicense: mit\n---\n", {"language": "no"} | MIT),
        ("---\nlanguage: [en, ko]\nlicense: mit\nlicense: gpl\n---\n", {"language": ["en", "ko"]} | MIT),
        ("---\nextra_gated_prompt: |\n  hello\n  license: evil\n  ---\nlicense: mit\n---\n", MIT),
        ("---\nlicense: other\nlicense_name: x\nlicense_link: y\n---\n",
         {"license": "other", "license_name": "x", "license_link": "y"}),
        ("---\nlicense: mit\ntags: [1, 2]\nlanguage: {a: b}\n---\n", MIT),
        ("---\nlicense: mit\n", {}),
        ("# title\n---\nlicense: mit\n---\n", {}),
        ("---\nlicense: *x\n---\n", {}),
    ],
)  # fmt: skip
def test_a_head_states_what_yaml_says(tmp_path: Path, readme: str, expected: dict[str, Any]) -> None:
    (tmp_path / "README.md").write_bytes(readme.encode())
    assert stated(tmp_path) == expected
    assert stated_licence(tmp_path) == {key: value for key, value in expected.items() if "license" in key}


def test_a_folder_without_a_card_states_nothing(tmp_path: Path) -> None:
    assert stated(tmp_path) == {}


@given(content=st.binary(max_size=300))
def test_no_card_stops_anything(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("card")
    (folder / "README.md").write_bytes(b"---\n" + content + b"\n---\n")
    assert all(isinstance(value, str | list) for value in stated(folder).values())
