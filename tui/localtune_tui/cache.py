"""Models that were downloaded: the cache that all tools of the hub share. Sizes are bytes on disk. For threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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


def cached_models() -> list[CachedModel]:
    """Every model in the cache, the largest first; none where there is no cache. Raises `OSError`."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    models = [
        CachedModel(
            repo.repo_id,
            repo.size_on_disk,
            repo.last_accessed,
            Path(repo.repo_path),
            tuple(revision.commit_hash for revision in repo.revisions),
        )
        for repo in repos
        if repo.repo_type == "model"
    ]
    return sorted(models, key=lambda model: -model.size)


def delete(revisions: Sequence[str]) -> int:
    """Take these revisions out of the cache, and return the bytes that are free again. Raises `OSError`."""
    from huggingface_hub import scan_cache_dir

    strategy = scan_cache_dir().delete_revisions(*revisions)
    strategy.execute()
    return int(strategy.expected_freed_size)
