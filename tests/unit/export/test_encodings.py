"""Bytes of a tensor in every type, and what no type can hold."""

from contextlib import suppress

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.batch import Floats
from localtune.errors import InputError
from localtune.export import encodings
from localtune.export.encodings import ENCODINGS, encode, known, size_of
from localtune.export.kernel import EXACT_CODES

PLAIN = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)
EVERY = (*PLAIN, *EXACT_CODES)


@pytest.fixture(params=["ggml", "numpy"])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to quantise; where there is no kernel the first is the second."""
    if request.param == "numpy":
        monkeypatch.setattr(encodings, "kernel", lambda: None)


def normal(rows: int = 3) -> Floats:
    return np.random.default_rng(2).standard_normal((rows, 512)).astype(np.float32)


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize("kind", EVERY)
def test_bytes_are_as_many_as_the_header_says_and_read_back(kind: GGMLQuantizationType) -> None:
    rows = normal()
    content = encode(rows, kind, "w")
    assert len(content) == size_of(rows.shape, kind)
    back = quants.dequantize(np.frombuffer(content, np.uint8).reshape(3, -1), kind)
    assert np.sqrt(np.mean((back - rows) ** 2)) < 0.09


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused_wherever_it_is(kind: GGMLQuantizationType, value: float) -> None:
    for place in (0, 700, -1):
        rows = normal()
        rows.reshape(-1)[place] = value
        with pytest.raises(InputError, match=r"gguf\.not-finite.*w  holds values"):
            encode(rows, kind, "w")


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind != GGMLQuantizationType.F32])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_too_large_is_refused(kind: GGMLQuantizationType, sign: int) -> None:
    rows = normal()
    rows[1, 300] = sign * np.finfo(np.float32).max
    with pytest.raises(InputError, match=r"gguf\.overflow.*w  "):
        encode(rows, kind, "w")


@pytest.mark.usefixtures("maker")
@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(sorted(EXACT_CODES)),
    st.lists(st.floats(-1e8, 1e8, width=32), min_size=1, max_size=17),
)
def test_what_is_written_is_finite_or_refused(kind: int, values: list[float]) -> None:
    one, rows = GGMLQuantizationType(kind), np.resize(np.array(values, np.float32), (2, 256))
    content = None
    with suppress(InputError):
        content = np.frombuffer(encode(rows, one, "w"), np.uint8)
    assert content is not None or np.abs(rows).max() > 60_000
    if content is not None:
        assert np.isfinite(quants.dequantize(content.reshape(2, -1), one)).all()


@pytest.mark.parametrize("kind", EVERY)
def test_stacked_matrices_are_their_rows(kind: GGMLQuantizationType) -> None:
    rows = normal(6)
    assert encode(rows.reshape(2, 3, 512), kind, "w") == encode(rows, kind, "w")


@pytest.mark.parametrize("kind", EXACT_CODES)
def test_rows_that_are_not_contiguous_are_read_right(kind: GGMLQuantizationType) -> None:
    rows = normal(6)
    assert encode(rows[::2], kind, "w") == encode(rows[::2].copy(), kind, "w")


def test_an_unknown_encoding_names_those_there_are() -> None:
    with pytest.raises(InputError, match="F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_K_S"):
        known("Q9_X")


def test_every_encoding_says_its_type_to_llama_cpp() -> None:
    assert [one.file_type.name.removeprefix("MOSTLY_") for one in ENCODINGS.values()] == [
        "ALL_F32",
        *list(ENCODINGS)[1:],
    ]
    assert all(one.matrices in GGML_QUANT_SIZES for one in ENCODINGS.values())
