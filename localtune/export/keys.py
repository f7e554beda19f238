"""Keys of a GGUF file, written by the type of their value."""

from typing import Any

import gguf


def add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Hand a key to gguf's writer: bool, int as uint32, float as float32, str, or a list of one of them."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
