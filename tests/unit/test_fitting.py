"""Whether an adapter's configuration names the base it is fused into."""

import json
from pathlib import Path

import pytest

from localtune.errors import InputError
from localtune.fitting import other_revision, refuse_other_base
from localtune.model import ModelFiles, resolve
from localtune.products.fused import fused_adapter
from localtune.typed import typed
from tests.unit.test_fuse import make_adapter
from tests.unit.test_fuse_quantised import original

A, B = "a" * 40, "b" * 40


def model(folder: Path, name: str | None = None, revision: str | None = None) -> ModelFiles:
    """A model of the hub with a `revision`, else the folder."""
    found = resolve(str(folder), folder, offline=True)
    return ModelFiles(name or str(folder), folder, revision, found.config, found.tensors, found.stop_ids)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return original(tmp_path_factory.mktemp("fitting") / "Tiny-1M")


def adapter_of(folder: Path, named: str | None, revision: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"base_model_name_or_path": named, "revision": revision}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("named", [None, "", "org/Tiny-1M", "org/Tiny-1M@main", "ORG/tiny-1m", "../x/Tiny-1M", ".",
                                   "C:\\models\\Tiny-1M", "/gone/models--org--Tiny-1M/snapshots/abc"])  # fmt: skip
def test_what_may_be_the_base_is_taken(base: Path, tmp_path: Path, named: str | None) -> None:
    adapter = adapter_of(tmp_path / "adapter", named)
    refuse_other_base(adapter, model(base))
    refuse_other_base(adapter, model(base, "org/Tiny-1M@v2", A))


def test_a_folder_is_itself_whatever_it_is_called(base: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(base, target_is_directory=True)
    refuse_other_base(adapter_of(tmp_path / "adapter", str(tmp_path / "linked")), model(base))
    refuse_other_base(adapter_of(tmp_path / "adapter", str(base)), model(tmp_path / "linked"))


@pytest.mark.parametrize("named", ["org/Tiny-2M", "/models/Tiny", "Tiny-1M-Instruct"])
def test_another_name_is_refused(base: Path, tmp_path: Path, named: str) -> None:
    adapter = adapter_of(tmp_path / "an adapter", named)
    for found in (model(base), model(base, "org/Tiny-1M", A)):
        with pytest.raises(InputError, match=r"adapter\.base") as caught:
            refuse_other_base(adapter, found)
        (problem,) = caught.value.problems
        assert problem.what == f"was trained on {named}, not on {found.name}"
        assert problem.fix.startswith(typed("localtune", "fuse", adapter, "-o", "FUSED", "-m", named))
        assert problem.fix.endswith("--force")


def test_so_is_the_same_name_of_another_owner(base: Path, tmp_path: Path) -> None:
    cached = "/cache/models--org--Tiny-1M/snapshots/abc"
    for named in ("org/Tiny-1M", cached):
        with pytest.raises(InputError, match=r"adapter\.base"):
            refuse_other_base(adapter_of(tmp_path / "adapter", named), model(base, "other/Tiny-1M", A))


@pytest.mark.parametrize(
    ("trained", "given", "told"), [(A, B, A), (A, A, None), (None, B, None), ("main", B, None), (A, None, None)]
)
def test_another_commit_of_the_base_is_told(
    base: Path, tmp_path: Path, trained: str | None, given: str | None, told: str | None
) -> None:
    assert other_revision(adapter_of(tmp_path / "adapter", "org/Tiny-1M", trained), model(base, None, given)) == told


def test_nothing_is_fused_into_another_model_of_the_same_shape_unless_forced(base: Path, tmp_path: Path) -> None:
    other = model(original(tmp_path / "other"))
    make_adapter(base, tmp_path / "adapter")
    with pytest.raises(InputError, match=r"adapter\.base"):
        list(fused_adapter(tmp_path / "adapter", other, tmp_path / "fused"))
    assert not (tmp_path / "fused").exists()
    list(fused_adapter(tmp_path / "adapter", other, tmp_path / "fused", force=True))
    assert resolve(str(tmp_path / "fused"), tmp_path, offline=True).parameters == other.parameters
