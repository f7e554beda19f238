"""The lines of a file of any size are found by their places, also while it grows, shrinks or goes away."""

from pathlib import Path

from localtune_tui.lines import FileLines


def test_lines_are_read_by_number_as_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    lines = FileLines(path)
    assert not lines.look()
    assert (lines.count, lines.line(0)) == (0, "")
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert lines.look()
    assert [lines.line(number) for number in (0, 31, 32, 999, 1000)] == ["line 0", "line 31", "line 32", "line 999", ""]
    with path.open("a") as file:
        file.write("torn")
    lines.look()
    assert (lines.count, lines.line(1000)) == (1001, "torn")
    with path.open("a") as file:
        file.write(" no more\nnext\n")
    lines.look()
    assert (lines.count, lines.line(1000), lines.line(1001)) == (1002, "torn no more", "next")


def test_a_search_goes_on_from_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"{'Needle' if number % 400 == 7 else 'hay'} {number}\n" for number in range(1000)))
    lines = FileLines(path)
    lines.look()
    assert [lines.find("needle", start) for start in (0, 8, 408, 808)] == [7, 407, 807, None]


def test_a_file_that_was_cut_or_is_gone_has_only_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("a\nb\nc\n")
    lines = FileLines(path)
    lines.look()
    path.write_text("d\n")
    assert lines.look()
    assert (lines.count, lines.line(0)) == (1, "d")
    path.unlink()
    assert lines.look()
    assert lines.count == 0


def test_bytes_that_are_no_text_and_endless_lines_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"\xff\xfe\n" + b"x" * (3 << 20) + b"\nlast")
    lines = FileLines(path)
    lines.look()
    assert lines.line(0) == "\ufffd\ufffd"
    assert len(lines.line(1)) == 4096
    assert lines.count == 3
