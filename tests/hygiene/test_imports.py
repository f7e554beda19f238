"""What a command loads: nothing it does not need, and array frameworks only where something computes."""

import subprocess
import sys
import time

from localtune.cli import COMMANDS

HEAVY = {"torch", "mlx", "transformers", "peft", "bitsandbytes", "mlx_lm", "textual"}


def _loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprintable = ' '.join(sys.modules)\nsys.__stderr__.write(printable)"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in child.stderr.split()}


CORE = "import " + ", ".join(sorted({f"localtune.cli.{target.partition(':')[0]}" for target in COMMANDS.values()}))


def test_no_part_of_the_core_loads_an_array_framework() -> None:
    assert not _loaded(f"{CORE}, localtune.worker, localtune.supervisor, localtune.probe") & HEAVY


def test_the_check_would_notice_one() -> None:
    assert _loaded("import localtune_torch.backend") & HEAVY == {"torch"}


def test_help_loads_neither_numpy_nor_pydantic() -> None:
    help_ = "from click.testing import CliRunner; from localtune.cli import localtune\n"
    loaded = _loaded(f"{help_}assert 'Commands' in CliRunner().invoke(localtune, ['--help']).output")
    assert "click" in loaded
    assert not loaded & (HEAVY | {"numpy", "pydantic", "rich", "huggingface_hub", "tokenizers"})


def test_help_answers_within_200_ms() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "localtune", "--help"], capture_output=True, check=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(7)) < 0.2
