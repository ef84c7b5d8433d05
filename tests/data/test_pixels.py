import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.data.pixels import from_bytes, to_bytes
from tinyddpm.errors import NonFiniteError, UsageError

BYTES = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_byte_survives_the_round_trip(dtype) -> None:
    x = from_bytes(BYTES, dtype)
    assert x.dtype == dtype
    assert (x[0], x[-1]) == (-1, 1)
    np.testing.assert_array_equal(to_bytes(x), BYTES, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_byte_survives_noise_of_less_than_half_a_level(dtype) -> None:
    for noise in (-0.49, 0.49):
        np.testing.assert_array_equal(
            to_bytes(from_bytes(BYTES, dtype) + dtype(noise / 127.5)), BYTES
        )


def test_truncation_would_lose_63_of_256_levels() -> None:
    truncated = ((from_bytes(BYTES) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    assert (truncated != BYTES).sum() == 63


@given(st.floats(allow_nan=False, width=32))
def test_the_nearest_byte_is_chosen_and_what_lies_outside_is_clipped(x: float) -> None:
    (byte,) = to_bytes(np.array([x], np.float32))
    inside = min(max(x, -1.0), 1.0)
    assert abs(127.5 * (inside + 1) - float(byte)) <= 0.5 + 1e-5


def test_nan_is_an_error_and_not_a_byte() -> None:
    with pytest.raises(NonFiniteError, match="NaN"):
        to_bytes(np.array([0.0, np.nan], np.float32))


@pytest.mark.parametrize("images", [from_bytes(BYTES), BYTES / 255, BYTES.astype(np.int64)])
def test_what_are_no_bytes_is_not_scaled(images) -> None:
    """Scaled once more, numbers in [−1, 1] would all be nearly −1."""
    with pytest.raises(UsageError, match="must be bytes"):
        from_bytes(images)
