r"""Attacks by recipes, rows, templates and names.

Elsewhere: control tokens in what a user says (tests/unit/data/test_render.py, test_golden.py), forty malformed files
in every format (tests/faults/test_bad_rows.py), templates without end (tests/unit/data/test_sandbox.py).
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from tests.faults.corpus.case import Case, Cases, one_file

HEAD = "model: org/name\ndata: {train: rows.jsonl}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def _recipe(text: str | bytes) -> Callable[[Path, Path], None]:
    return one_file("recipe.yaml", text)


RECIPES: Cases = {
    "a bomb of aliases": Case("recipe", "recipe.yaml", _recipe(BOMB + HEAD), "anchors"),
    "a tag that runs a command": Case(
        "recipe", "recipe.yaml", _recipe(HEAD + "name: !!python/object/apply:os.system [touch CANARY]\n"), "tags"
    ),
    "a tag of Python's names": Case("recipe", "recipe.yaml", _recipe("!!python/name:os.system\n" + HEAD), "tags"),
    "a merge key": Case("recipe", "recipe.unknown-key", _recipe(HEAD + "train: {<<: {epochs: 1}}\n")),
    "a directive": Case("recipe", "recipe.yaml", _recipe("%YAML 1.1\n---\n" + HEAD), "directives"),
    "two documents": Case("recipe", "recipe.yaml", _recipe(HEAD + "---\n" + HEAD)),
    "a key given twice": Case("recipe", "recipe.duplicate-key", _recipe(HEAD + "name: a\nname: b\n")),
    "1e-5 is a number": Case("recipe", "", _recipe(HEAD + "train: {learning_rate: 1e-5}\n")),
    "no is a text": Case("recipe", "recipe.type", _recipe(HEAD + "train: {pack: no}\n"), "'no'"),
    "010 is ten": Case("recipe", "", _recipe(HEAD + "train: {batch_size: 010}\n")),
    "not a number": Case("recipe", "recipe.type", _recipe(HEAD + "train: {learning_rate: .nan}\n")),
    "infinity": Case("recipe", "recipe.type", _recipe(HEAD + "train: {clip: .inf}\n")),
    "5,000 digits": Case("recipe", "recipe.type", _recipe(HEAD + f"train: {{seed: {'9' * 5000}}}\n")),
    "100,000 levels": Case("recipe", "recipe.yaml", _recipe("[" * 100_000)),
    "17 levels": Case("recipe", "recipe.yaml", _recipe("a: " + "[" * 17 + "]" * 17), "nested deeper"),
    "more than 256 KB": Case("recipe", "recipe.size", _recipe("#" * 300_000)),
    "20,000 values": Case("recipe", "recipe.yaml", _recipe("a: [" + "1," * 20_000 + "]"), "values"),
    "a control character": Case("recipe", "recipe.control-character", _recipe(HEAD + "name: a\x1b[2J\n")),
    "no UTF-8": Case("recipe", "recipe.encoding", _recipe(b"name: \xff\n")),
    "a name with dots": Case("recipe", "recipe.type", _recipe(HEAD + "name: ../../.ssh/x\n")),
    "a name from the root": Case("recipe", "recipe.type", _recipe(HEAD + "name: /etc/x\n")),
    "a name of Windows": Case("recipe", "recipe.type", _recipe(HEAD + "name: 'C:\\x'\n")),
    "a name with a line end": Case("recipe", "recipe.type", _recipe(HEAD + 'name: "a\\n"\n')),
    "a NUL in a path": Case("recipe", "recipe.type", _recipe('model: "a\\0b"\ndata: {train: x}\n')),
    "half a character": Case("recipe", "recipe.yaml", _recipe(HEAD + 'name: "\\ud800"\n'), "half a character"),
    "text that turns the screen round": Case("recipe", "recipe.unknown-key", _recipe(HEAD + "\u202eevil: 1\n")),
    "more GGUF files than there are": Case(
        "recipe", "recipe.type", _recipe(HEAD + "export: {gguf: [" + "Q8_0," * 9 + "]}\n")
    ),
    "a file to export that is none": Case("recipe", "recipe.type", _recipe(HEAD + "export: {gguf: [../../x]}\n")),
}
GOOD = b'{"prompt": "a", "completion": "b"}\n'


def _rows(content: str | bytes, name: str = "rows.jsonl") -> Callable[[Path, Path], None]:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return one_file(name, raw)


def _value(text: str) -> Callable[[Path, Path], None]:
    return _rows(b'{"prompt": "a", "completion": "b", "x": ' + text.encode("utf-8", "surrogatepass") + b"}\n")


NONE = "data.empty"
"""No row of the file can be used, and why is said of each."""
ROWS: Cases = {
    "separators of lines inside a text": Case(
        "data", "", _rows(json.dumps({"prompt": "a\u2028b\u2029c\x85d", "completion": "\rz"}, ensure_ascii=False))
    ),
    "a byte order mark and CR LF": Case("data", "", _rows(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"))),
    "NaN in a row": Case("data", NONE, _value("NaN"), "NaN"),
    "infinity in a row": Case("data", NONE, _value("-Infinity")),
    "1e999": Case("data", NONE, _value("1e999")),
    "5,000 digits in a row": Case("data", NONE, _value("9" * 5000), "5,000 digits"),
    "numbers of 4,300 digits before NaN": Case("data", NONE, _value("[" + ",".join(["1" * 4300] * 3000) + ",NaN]")),
    "100,000 levels in a row": Case("data", NONE, _value("[" * 100_000)),
    "900 levels in a row": Case("data", NONE, _value("[" * 900 + '"\\ud83d\\ude00"' + "]" * 900), "nested too deeply"),
    "a million lists in a row": Case("data", NONE, _value("[" + "[]," * 1_500_000 + "1]"), "values"),
    "a million lists in a JSON file": Case(
        "data", "data.json", _rows(b'[{"prompt": "a", "x": [' + b"[]," * 1_500_000 + b"1]}]", "rows.json"), "values"
    ),
    "half a character in a row": Case("data", NONE, _value('"\\ud800"'), "surrogate"),
    "NUL in a row": Case("data", NONE, _value('"\\u0000"'), "NUL"),
    "a key given twice in a row": Case("data", NONE, _rows(b'{"prompt": "a", "prompt": "b"}\n'), "twice"),
    "nothing": Case("data", "data.empty", _rows(b"")),
    "a line without end": Case("data", "data.long-line", _rows(b'{"prompt": "' + b"x" * 17_000_000 + b'"}')),
    "a bomb of gzip": Case(
        "data", "data.long-line", _rows(gzip.compress(bytes(30_000_000).replace(b"\0", b"x")), "rows.jsonl.gz")
    ),
    "an archive that is called rows": Case("data", "data.suffix", _rows(b"PK\x03\x04" + bytes(60))),
    "a cell without end": Case(
        "data", "data.long-line", _rows(b'prompt,completion\n"' + b"x" * 17_000_000, "rows.csv")
    ),
    "quotes that never close": Case("data", "data.quote", _rows(b'prompt,completion\n"' + b'a,"b\n' * 2, "rows.csv")),
    "arguments of 2,000 levels": Case(
        "data",
        "data.json",
        _rows(
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": "a"},
                        {
                            "role": "assistant",
                            "tool_calls": [{"function": {"name": "f", "arguments": "[" * 2000 + "]" * 2000}}],
                        },
                    ]
                }
            )
        ),
    ),
    "codes of a terminal in a broken row": Case("data", NONE, _rows('{"\x1b]0;x\x07\x1b[2J\u202e\x9b[/red]": \n')),
    "codes of a terminal in a role": Case(
        "data",
        "data.role",
        _rows(
            json.dumps(
                {"messages": [{"role": "\x1b[2J[/]\u202e\x9b", "content": "x"}, {"role": "user", "content": "y"}]}
            )
        ),
    ),
}
ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ (''|attr('__class__')).__mro__ }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['__builtins__'].open('CANARY', 'w') }}",
    "{{ strftime_now.__closure__ }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY') }}",
    "{{ lipsum.__globals__['os'].system('touch CANARY') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ joiner.__init__.__globals__.__builtins__.__import__('os').system('touch CANARY') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(messages) }}",
    "{{ ['{0.__class__}'] | map('format', messages) | list }}",
    "{{ [messages] | map(attribute='__class__') | list }}",
    "{{ messages | map(attribute='__init__.__globals__') | list }}",
    "{{ messages | groupby('__class__') }}",
    "{{ messages | sort(attribute='__class__') }}",
    "{{ messages.append('x') }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages[0].__setitem__('role', 'x') }}",
    "{{ tools.gi_frame }}",
    "{% for m in messages %}{{ loop.__class__ }}{% endfor %}",
    "{{ caller.__globals__ }}{{ varargs.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "{% extends '/etc/passwd' %}",
    "{% from 'os' import system %}{{ system('touch CANARY') }}",
    "{% macro m() %}{{ m.__globals__ }}{{ m._func.__globals__ }}{% endmacro %}{{ m() }}",
    "{% generation %}{{ caller.__code__ }}{% endgeneration %}",
    "{{ (messages | tojson).__class__.__base__ }}",
    "{{ 'a'.encode().__class__ }}{{ ('a' | string).join.__self__.__class__ }}",
    "{{ range(10 ** 9) | list }}",
    "{{ '%n' % 1 }}{{ '%(x)s' % {} }}",
    "{% do messages.pop() %}",
)
"""What others' sandboxes let through, or should have held."""
TEMPLATES: Cases = {
    **{f"the template {text}": Case("template", "", one_file("template", text)) for text in ESCAPES},
    "a template nested deeply": Case("template", "", one_file("template", "{{ " + "(" * 50_000 + "1" + ")" * 50_000)),
    "a template of blocks in blocks": Case(
        "template", "", one_file("template", "{% if 1 %}" * 3000 + "{% endif %}" * 3000)
    ),
    "a template that is no text": Case("template", "", one_file("template", "\ud800{{ 1 }}")),
    "numbers beyond all": Case("template", "", one_file("template", "{{ 9 ** 9 ** 3 }}{{ " + "9" * 5000 + " }}")),
}
FILES_OF_A_HUB = (
    *("../evil.json", "/etc/evil.json", "..\\evil.json", "C:\\evil.json", "C:evil.json", "a/b.json", "a\nb.json", ".."),
    *(
        ".",
        "\u202egpj.json",
        "a\0.json",
        "~\\x.json",
        "x" * 300,
        "",
        "evil.json\u2028",
        "a:b.json",
        "a.json.",
        "a.json ",
    ),
    *("a|b.json", "a?.json", "a*.json", 'a".json', "<a>.json", "a\u2067.json", "a\x9b.json"),
)
NAMES: Cases = {
    f"the file {name[:30]!r} of a hub": Case("names", "model.names", one_file("name", name)) for name in FILES_OF_A_HUB
}
FILES: Cases = RECIPES | ROWS | TEMPLATES | NAMES
