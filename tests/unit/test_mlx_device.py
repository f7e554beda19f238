"""What the MLX backend says of a machine, with Apple's GPU and an NVIDIA card played by what MLX reports of them."""

from typing import Any

import pytest

mx = pytest.importorskip("mlx.core")

from localtune_mlx import device, memory  # noqa: E402

GB = 10**9
APPLE = {"device_name": "Apple M3 Pro", "memory_size": 18 * GB, "max_recommended_working_set_size": 13 * GB}


def play(monkeypatch: pytest.MonkeyPatch, *, metal: bool, info: dict[str, Any]) -> None:
    monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
    monkeypatch.setattr(mx, "device_info", lambda: info)
    monkeypatch.setattr(device, "on_gpu", lambda: True)


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    class Memory:
        available = size

    monkeypatch.setattr("psutil.virtual_memory", Memory)


def test_a_mac_may_use_what_metal_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, metal=True, info=APPLE)
    free(monkeypatch, 16 * GB)
    found = device.probe()
    assert (found.kind, found.name, found.memory_limit) == ("metal", "Apple M3 Pro", 13 * GB)
    assert found.dtypes[0] == "bfloat16"
    assert "18 GB shared memory, recommended working set 13.0 GB" in found.reason


def test_on_a_mac_other_programs_lower_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, metal=True, info=APPLE)
    free(monkeypatch, 5 * GB)
    assert device.probe().memory_limit == 5 * GB


def test_a_card_through_mlx_is_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, metal=False, info={"device_name": "RTX", "free_memory": 7 * GB})
    found = device.probe()
    assert (found.kind, found.name, found.memory_limit) == ("cuda", "RTX", 7 * GB)


def test_a_processor_computes_in_float32_first() -> None:
    if device.on_gpu():
        pytest.skip("this machine has a GPU for MLX")
    found = device.probe()
    assert (found.kind, found.dtypes[0]) == ("cpu", "float32")
    assert set(found.versions) == {"mlx", "mlx-lm"}


def test_limits_hold_while_a_session_lives_and_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"memory": 100, "cache": 50, "wired": 7}

    def setter(name: str) -> Any:
        def put(value: int) -> int:
            before, now[name] = now[name], value
            return before

        return put

    play(monkeypatch, metal=True, info=APPLE)
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    for name in now:
        monkeypatch.setattr(mx, f"set_{name}_limit", setter(name))
    with memory.within(20 * GB):
        assert now == {"memory": 20 * GB, "cache": 20 * GB // memory.CACHE_PART, "wired": 13 * GB}
    assert now == {"memory": 100, "cache": 50, "wired": 7}
    with memory.within(0):
        assert now == {"memory": 100, "cache": 50, "wired": 7}


def test_running_out_of_memory_says_what_to_change() -> None:
    from localtune.errors import ResourceError

    with pytest.raises(ResourceError, match=r"train\.rows=1"), memory.memory_or_error("training"):
        raise RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum")
    with pytest.raises(RuntimeError, match="shapes"), memory.memory_or_error("training"):
        raise RuntimeError("shapes do not match")
