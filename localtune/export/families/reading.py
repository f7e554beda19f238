"""`config.json` read by those of its keys that change what a family computes; what is wrong is kept, all of it."""

from typing import Any

from localtune.errors import Problem
from localtune.export.problems import Problems
from localtune.export.tokens import ANOTHER
from localtune.model import ModelConfig, ModelFiles
from localtune.model.config import CONFIG, read_config

FRESH = "get a fresh copy of the model's files"


class Reading:
    """A model's configuration and the problems found in it."""

    def __init__(self, model: ModelFiles, problems: Problems) -> None:
        self.shape: ModelConfig = model.config
        self.config: dict[str, Any] = read_config(model.folder)
        self.context = model.config.context
        """Most tokens that the file is for."""
        self.notes: tuple[str, ...] = ()
        """What the file cannot do of what the model can, one sentence each."""
        self._problems = problems

    def epsilon(self) -> float:
        """What keeps a norm from dividing by 0; a float32 above 0."""
        return self.number("rms_norm_eps", 1e-6, least=1e-30, most=1.0)

    def number(self, key: str, silent: float, *, least: float = 1e-9, most: float = 1e18) -> float:
        """A number above `least` and below `most`; `silent` where the key is missing."""
        value = self.config.get(key, silent)
        if type(value) in (int, float) and least < value < most:
            return float(value)
        self._wrong(key, f"a number above {least:g} and below {most:g}" if most < 1e18 else "a number above 0")
        return silent

    def count(self, key: str, silent: int) -> int:
        """A whole number above 0; `silent` where the key is missing."""
        value = self.config.get(key, silent)
        if type(value) is int and 0 < value < 2**31:
            return int(value)
        self._wrong(key, "a whole number above 0")
        return silent

    def flag(self, key: str) -> bool:
        """True or false; false where the key is missing or null."""
        value = self.config.get(key)
        if value is not None and not isinstance(value, bool):
            self._wrong(key, "true or false")
        return value is True

    def without(self, key: str, *nothing: object) -> None:
        """Refuse a key that is neither missing, null, false nor one of `nothing`: llama.cpp has nothing of the kind."""
        value = self.config.get(key)
        if value is not None and value is not False and not any(value == one for one in nothing):
            self.refuse("gguf.config", f"{key} is {value!r:.60}, which llama.cpp does not compute in this architecture")

    def activation(self, key: str, *known: str) -> None:
        """Refuse another activation than those of `known`, the first of which is the family's default."""
        value = self.config.get(key, known[0])
        if value not in known:
            what = f"{key} is {value!r:.40}; llama.cpp computes this architecture with {known[0]}"
            self.refuse("gguf.activation", what)

    def limit_to_window(self, window: object) -> None:
        """Let the file have no more context than a sliding window covers, and note it; None is none.

        Position i sees the `window` tokens up to i, itself included: within that many, a window changes nothing.
        """
        if window is not None and (type(window) is not int or window <= 0):
            self._wrong("sliding_window", "a whole number above 0, or null", value=window)
        elif type(window) is int and window < self.context:
            self.context = window
            self.notes += (
                f"llama.cpp has no window for this architecture: the file is limited to {window:,} tokens, of "
                f"{self.shape.context:,} that the model reads, and says the same within them; with a context set "
                "beyond, llama.cpp reads on without the window and says something else",
            )

    def window_period(self, usual: int) -> int:
        """Every how many layers one has no window, by `layer_types` or, where that is missing, as usual."""
        kinds = self.config.get("layer_types")
        periods = [usual, *range(2, self.shape.layers + 1)]
        found = next((period for period in periods if kinds in (None, layer_types(self.shape.layers, period))), 0)
        if found < 2:
            self.refuse("gguf.config", "layer_types alternate in a way that llama.cpp does not know")
        return found

    def local_theta(self, silent: float) -> float:
        """The rope base of the layers with a window, whose positions may not be scaled."""
        both = self.config.get("rope_parameters")
        local = both.get("sliding_attention") if isinstance(both, dict) else None
        local = local if isinstance(local, dict) else {}
        if local.get("rope_type", "default") != "default":
            self.refuse("gguf.rope", f"rope_type {local['rope_type']!r:.40} of the layers with a window")
        base = local.get("rope_theta", self.config.get("rope_local_base_freq", silent))
        if type(base) in (int, float) and 0 < base < 1e18:
            return float(base)
        self._wrong("rope_local_base_freq", "a number above 0", value=base)
        return silent

    def tied(self) -> None:
        """Refuse a head of its own."""
        if not self.shape.tied:
            self.refuse("gguf.config", "has a head of its own; llama.cpp uses the embedding in this architecture")

    def whole_heads(self) -> None:
        """Refuse heads that together are wider or narrower than the hidden state."""
        if self.shape.heads * self.shape.head_dim != self.shape.hidden:
            what = f"{self.shape.heads} heads of {self.shape.head_dim} are not the hidden size {self.shape.hidden}"
            self.refuse("gguf.head-dim", f"{what}, which llama.cpp wants in this architecture")

    def refuse(self, code: str, what: str, fix: str = ANOTHER) -> None:
        """Keep a problem."""
        self._problems.add(Problem(code, what, CONFIG, fix=fix))

    def _wrong(self, key: str, expected: str, value: object = None) -> None:
        value = self.config.get(key) if value is None else value
        shown = "is missing" if value is None and key not in self.config else f"is {value!r:.60}"
        self.refuse("gguf.config", f"{key} {shown}; expected {expected}", FRESH)


def layer_types(layers: int, period: int) -> list[str]:
    """What transformers calls the layers where every `period`-th has no window."""
    return ["full_attention" if (layer + 1) % period == 0 else "sliding_attention" for layer in range(layers)]
