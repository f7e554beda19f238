"""A bounded look at a file: of which kind it is, and how it is to be read. What is not obvious is said."""

from dataclasses import replace
from pathlib import Path

from localtune.data.reading import document, parquet, table
from localtune.data.reading.encoding import LOOK, OLDER, encoding_of
from localtune.data.reading.file import File, Kind, opened, regular, unreadable
from localtune.data.reading.json_list import is_one_row
from localtune.data.reading.strict import Fault, parse
from localtune.data.reading.text import text_of
from localtune.errors import InputError, Problem, safe
from localtune.typed import typed

SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".txt": "txt", ".text": "txt", ".md": "txt",
}  # fmt: skip
READ = "what is read: .jsonl, .json, .csv, .tsv, .parquet, .txt, .md, and .gz of the text kinds"
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or an Excel sheet", "unzip it, or save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save it as CSV (UTF-8)"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "zstd -d {}"),
    (b"\xfd7zXZ", "compressed by xz", "xz -dk {}"),
    (b"BZh", "compressed by bzip2", "bzip2 -dk {}"),
    (b"%PDF", "a PDF", "pdftotext {}"),
    (b"SQLite format 3", "an SQLite database", 'sqlite3 -json {} "select * from TABLE" > data.json'),
    (b"ARROW1", "an Arrow file", "save it as Parquet"),
)
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_FIRST_LINE = 2**20


def kind_of(path: Path) -> Kind | None:
    """The kind that the name tells; None for an unknown suffix."""
    name = path.name.lower().removesuffix(".gz")
    return SUFFIXES.get(Path(name).suffix)


def look(path: Path, shown: str, separator: str | None = None) -> File:
    """The file at `path`, called `shown` in messages. Raises `InputError` for one that cannot be read."""
    stat = regular(path, shown)
    if not stat.st_size:
        raise InputError(Problem("data.empty", "the file is empty", shown, fix="name a file with rows"))
    begin = _begin(path, shown)
    _refuse_foreign(begin, shown)
    kind, gz = kind_of(path), begin.startswith(_GZIP)
    file = File(path, shown, kind or "txt", gz, stat.st_size, stat.st_mtime_ns)
    if begin.startswith(_PARQUET) or kind == "parquet":
        return parquet.checked(_as(file, "parquet", kind))
    if path.name.lower().endswith(".gz") != gz:
        file = _said(file, "is compressed by gzip" if gz else "is not compressed, whatever its name says")
    file = _in_its_encoding(_of_known_kind(file, kind))
    return _of_its_kind(file, separator)


def _begin(path: Path, shown: str) -> bytes:
    try:
        with path.open("rb") as raw:
            return raw.read(16)
    except OSError as error:
        raise unreadable(error, shown) from None


def _refuse_foreign(begin: bytes, shown: str) -> None:
    for magic, what, fix in _FOREIGN:
        if begin.startswith(magic):
            raise InputError(Problem("data.suffix", f"is {what}; {READ}", shown, fix=fix.format(typed(shown))))


def _said(file: File, what: str) -> File:
    return replace(file, said=(*file.said, f"{safe(file.shown, 300)}: {what}"))


def _as(file: File, kind: Kind, named: Kind | None) -> File:
    found = replace(file, kind=kind)
    return found if kind == named else _said(found, f"read as {kind}, by its first bytes")


def _of_known_kind(file: File, named: Kind | None) -> File:
    """A file of unknown suffix is told by its first bytes, or refused."""
    if named:
        return file
    with opened(file) as stream:
        begin = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith((b"[", b"{")):
        return _as(file, "json" if begin.startswith(b"[") else "jsonl", None)
    what = f"is of a kind that its name and its first bytes do not tell; {READ}"
    raise InputError(Problem("data.suffix", what, file.shown, fix="give it the suffix of its kind, such as .txt"))


def _in_its_encoding(file: File) -> File:
    with opened(file) as stream:
        found = encoding_of(stream)
    if file.kind == "jsonl" and found.codec in (None, *OLDER) and not _is_jsonl_in(file, found.codec):
        return file
    if found.codec is None:
        what = f"in which encoding it is cannot be told: {found.said}"
        fix = f"iconv -f ENCODING -t UTF-8 {typed(file.shown)} > utf8.{file.kind}"
        raise InputError(Problem("data.encoding", what, f"{file.shown}:{found.line}", fix=fix))
    if file.kind in ("json", "jsonl") and found.codec in OLDER:
        name, why = OLDER[found.codec][0], found.said.partition(", because ")[2]
        what = f"JSON is UTF-8, and {why}; it looks like {name}"
        fix = f"iconv -f {name} -t UTF-8 {typed(file.shown)} > utf8.{file.kind}"
        raise InputError(Problem("data.encoding", what, f"{file.shown}:{found.line}", fix=fix))
    return replace(_said(file, found.said) if found.said else file, codec=found.codec)


def _is_jsonl_in(file: File, codec: str | None) -> bool:
    """Whether the first lines beyond ASCII are rows in this encoding, and not UTF-8 with bad bytes in it."""
    if codec is None:
        return False
    with opened(file) as stream:
        begin = text_of(stream, codec, "\n").read(_FIRST_LINE)
    lines = begin.split("\n")[: -1 if len(begin) == _FIRST_LINE else None]
    return all(isinstance(parse(line), dict) for line in lines if not line.isascii())


def _of_its_kind(file: File, separator: str | None) -> File:
    _refuse_blank(file)
    if file.kind in ("json", "jsonl"):
        return _json_or_lines(file)
    if file.kind in ("csv", "tsv"):
        file = replace(file, delimiter=table.delimiter_of(file))
        table.check_header(file)
        usual = "\t" if file.kind == "tsv" else ","
        return (
            file if file.delimiter == usual else _said(file, f"cells are separated by {table.name_of(file.delimiter)}")
        )
    if separator is not None and not document.holds(file, separator, LOOK):
        part = f" its first {LOOK // 2**20} MiB" if file.size > LOOK else ""
        return _said(file, f"the separator {safe(separator, 80)!r} is not in{part or ' it: it is one document'}")
    return file


def _refuse_blank(file: File) -> None:
    """Raise `InputError` for a file whose first megabyte is all of it, and blank."""
    with opened(file) as stream:
        text = text_of(stream, file.codec)
        begin = text.read(_FIRST_LINE).removeprefix("\ufeff")
        if not begin.strip(" \t\r\n") and not text.read(1):
            what = "the file holds only blanks" if begin else "the file is empty"
            raise InputError(Problem("data.empty", what, file.shown, fix="name a file with rows"))


def _json_or_lines(file: File) -> File:
    """`.json` files often hold JSON Lines, and `.jsonl` files one list: what the first lines show is what is read."""
    with opened(file) as stream:
        begin = text_of(stream, file.codec, "\n").read(_FIRST_LINE).lstrip("\ufeff \t\r\n")
    first, _, rest = begin.partition("\n")
    whole = not isinstance(parse(first), Fault)
    if file.kind == "json" and first.startswith("{") and whole and rest.lstrip().startswith("{"):
        return _said(replace(file, kind="jsonl"), "holds JSON Lines, one object a line, and is read as such")
    if file.kind == "json" and is_one_row(parse(begin)):
        return _said(file, "holds one object, and is read as one row")
    several = whole and rest.strip()
    if file.kind == "jsonl" and begin.startswith("[") and not several and begin[1:].lstrip()[:1] == "{":
        return _said(replace(file, kind="json"), "holds one list, and is read as JSON")
    return file
