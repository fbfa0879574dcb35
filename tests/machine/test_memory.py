from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from tvm_vacc.machine import memory


def test_cold_data_comes_again_after_more_than_the_caches_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "cold_bytes", lambda: 1000)
    copies = list(islice(memory.cold(object, 300), 8))
    assert len(set(map(id, copies))) == 4  # 1200 bytes
    assert copies[4] is copies[0]


def test_cold_bytes_exceed_the_largest_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    size = tmp_path / "size"  # type: ignore[operator]
    monkeypatch.setattr(memory, "LARGEST_CACHE", size)
    assert memory.cold_bytes() == memory.MIN_COLD_BYTES
    size.write_text("1048576K\n")
    assert memory.cold_bytes() == 2 << 30


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "uint8"])
def test_random_tensors(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "RANDOM_BLOCK", 1000)
    tensor = memory.random_tensor((3, 1234), dtype, scale=0.5)
    assert tensor.data_ptr() % 64 == 0
    assert (tuple(tensor.shape), str(tensor.dtype)) == ((3, 1234), dtype)
    if dtype == "float32":
        values = tensor.numpy().reshape(-1)
        assert values.std() == pytest.approx(0.5, rel=0.1)
        np.testing.assert_array_equal(values[:1000], values[1000:2000])
    if dtype == "uint8":
        assert {0, 255} <= set(memory.random_tensor((1, 100_000), dtype).numpy().reshape(-1))


def test_few_rows_stay_in_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    few, nothing = memory.activations((2, 16), (2, 16))
    assert nothing == 0
    assert next(few)[0] is next(few)[0]
    monkeypatch.setattr(memory, "CACHED_BYTES", 100)
    monkeypatch.setattr(memory, "cold_bytes", lambda: 1000)
    many, nbytes = memory.activations((2, 16), (2, 16))
    assert nbytes == 2 * 2 * 16 * 4
    assert next(many)[0] is not next(many)[0]
