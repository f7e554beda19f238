"""How thorough a run is, in three words: each preset is a few settings of the recipe, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A word for some settings."""

    name: str
    sentence: str
    """When to take it."""
    settings: Mapping[str, str]
    """Dotted key -> value as `--set` takes it; every other setting keeps its default."""

    @property
    def shown(self) -> str:
        """The settings on a line."""
        return ", ".join(f"{key} {value}" for key, value in self.settings.items()) or "every setting at its default"


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "quick",
            "a first look at what comes out",
            {"train.epochs": "1", "lora.rank": "8", "lora.alpha": "16", "data.max_tokens": "1024"},
        ),
        Preset("balanced", "suits most data", {}),
        Preset(
            "thorough",
            "longer, with more to learn in, and stops by itself",
            {
                "train.epochs": "4",
                "lora.rank": "32",
                "lora.alpha": "64",
                "watch.eval_every": "50",
                "watch.stop_if.val_loss_rises": "3",
            },
        ),
    )
}
"""In the order they are offered."""
DEFAULT = "balanced"
