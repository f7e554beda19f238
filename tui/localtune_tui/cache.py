"""Models that were downloaded: the cache that all tools of the hub share. Sizes are bytes on disk. For threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HFCacheInfo


@dataclass(frozen=True)
class CachedModel:
    """One model of the cache."""

    name: str
    """As a recipe names it: "Qwen/Qwen3-0.6B"."""
    size: int
    """Bytes; files that two revisions share count once."""
    used: float
    """When a file of it was last opened; seconds since 1970."""
    folder: Path
    revisions: tuple[str, ...]
    weights: bool
    """Whether it has safetensors, the form that is trained."""


def cached_models() -> list[CachedModel]:
    """Every model in the cache, the largest first; none where there is no cache. Raises `OSError`."""
    from huggingface_hub import CacheNotFound

    try:
        repos = _cache().repos
    except CacheNotFound:
        return []
    models = [
        CachedModel(
            repo.repo_id,
            repo.size_on_disk,
            repo.last_accessed,
            Path(repo.repo_path),
            tuple(revision.commit_hash for revision in repo.revisions),
            any(file.file_name.endswith(".safetensors") for revision in repo.revisions for file in revision.files),
        )
        for repo in repos
        if repo.repo_type == "model"
    ]
    return sorted(models, key=lambda model: -model.size)


def delete(revisions: Sequence[str]) -> int:
    """Take these revisions out of the cache, and return the bytes that are free again. Raises `OSError`."""
    strategy = _cache().delete_revisions(*revisions)
    strategy.execute()
    return int(strategy.expected_freed_size)


def _cache() -> "HFCacheInfo":
    from huggingface_hub import constants, scan_cache_dir

    return scan_cache_dir(constants.HF_HUB_CACHE)
