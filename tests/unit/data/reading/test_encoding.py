import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.data.reading.encoding import encoding_of
from tests.unit.data.reading.read import read

KO = "질문,답\n" + "".join(f"오늘 날씨는 어때요 {i}?,맑고 따뜻합니다.\n" for i in range(20))
FR = "question,réponse\n" + "".join(f"Où êtes-vous né {i} ?,À Besançon, près de chez Héloïse\n" for i in range(20))
RU = "вопрос,ответ\n" + "".join(f"Как тебя зовут {i}?,Меня зовут Анна.\n" for i in range(20))
JA = "質問,答え\n" + "".join(f"今日の天気はどうですか{i}。,とても晴れています。\n" for i in range(20))
ZH = "問題,答案\n" + "".join(f"今天天氣怎麼樣{i}，我們去哪裡？,外面很晴朗，我們去公園。\n" for i in range(20))
CN = "问题,答案\n" + "".join(f"今天天气怎么样{i}，我们去哪里？,外面很晴朗，我们去公园。\n" for i in range(20))


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        (KO, "cp949", "CP949 (Korean Windows)"), (KO, "euc_kr", "CP949 (Korean Windows)"), (FR, "latin-1", "CP1252"),
        (FR, "cp1252", "CP1252"), (RU, "cp1251", "CP1251"), (JA, "euc_jp", "EUC-JP"), (ZH, "big5", "BIG5"),
        (CN, "gb18030", "GB18030"), (KO, "utf-16", "UTF-16"), (KO, "utf-16-le", "UTF-16, little end first"),
        (FR, "utf-16-be", "UTF-16, big end first"), (KO, "utf-8-sig", "UTF-8 with a byte order mark"),
    ],
)  # fmt: skip
def test_an_encoding_is_read_exactly_and_said(text: str, codec: str, name: str, tmp_path: Path) -> None:
    content = text.replace(",À Besançon,", ",À Besançon").encode(codec)
    rows, problems, source = read(tmp_path / "a.csv", content)
    assert problems == []
    again = text.replace(",À Besançon,", ",À Besançon").split("\n")[1:-1]
    assert [",".join(row.value.values()) for row in rows] == again
    assert f"a.csv: read as {name}" in source.said()[0]
    assert ", because " in source.said()[0]


def test_japanese_windows_is_read_exactly(tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "a.csv", JA.encode("cp932"))
    assert [",".join(row.value.values()) for row in rows] == JA.split("\n")[1:-1]
    assert "Japanese" in source.said()[0]


def test_the_reason_names_byte_and_line(tmp_path: Path) -> None:
    content = b"Q,A\n1,2\n" + "안녕,하세요\n".encode("cp949") * 9
    _, _, source = read(tmp_path / "a.csv", content)
    wanted = "a.csv: read as CP949 (Korean Windows), because it is not UTF-8: byte 0xbe at line 3"
    assert source.said() == (wanted,)


def test_plain_utf8_is_not_spoken_of(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", KO.encode())[2].said() == ()


@pytest.mark.parametrize("where", [0, 5, 19])
def test_a_bad_line_among_good_ones_stays_a_bad_line(where: int, tmp_path: Path) -> None:
    lines = KO.encode().split(b"\n")
    lines.insert(where + 1, "날씨,맑음".encode("cp949"))
    rows, problems, source = read(tmp_path / "a.csv", b"\n".join(lines))
    assert (len(rows), len(problems), source.said()) == (20, 1, ())
    assert problems[0].where.startswith(f"a.csv:{where + 2}:")


def test_one_bad_line_in_less_than_a_hundred_of_ascii_is_another_encoding(tmp_path: Path) -> None:
    for lines, said in ((50, 1), (150, 0)):
        _, _, source = read(tmp_path / "a.csv", b"a,b\n" + b"1,2\n" * lines + b"caf\xe9,cr\xe8me\n")
        assert len(source.said()) == said


def test_a_letter_cut_by_the_end_of_a_piece_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtune.data.reading.encoding._CHUNK", 7)
    assert encoding_of(io.BytesIO(KO.encode())).codec == "utf-8"
    assert encoding_of(io.BytesIO(b"plain\n" * 9 + KO.encode("cp949"))).codec == "cp949"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_utf8_is_never_taken_for_anything_else(text: str) -> None:
    wanted = "utf-8-sig" if text.startswith("\ufeff") else "utf-8"
    assert encoding_of(io.BytesIO(text.encode())).codec == wanted
