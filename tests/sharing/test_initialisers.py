import pytest
import torch

from everlearn.sharing.initialisers import constant, glorot_limit, glorot_uniform, truncated_normal


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("tf_shape", "limit"),
    [
        ((1, 2, 2, 16), (6 / 36) ** 0.5),  # receptive 1 * 2, fans 2 * 2 and 2 * 16
        ((3, 3, 24, 16), (6 / 360) ** 0.5),  # receptive 9, fans 216 and 144
        ((24, 3, 32), (6 / 840) ** 0.5),  # receptive 24, fans 72 and 768
        ((1, 1, 1, 24), (6 / 25) ** 0.5),
        ((5, 7), (6 / 12) ** 0.5),
        ((32,), (6 / 64) ** 0.5),  # a vector counts its length twice
    ],
)
def test_limit_follows_tensorflows_fans(tf_shape, limit):
    assert glorot_limit(tf_shape) == pytest.approx(limit)


def test_glorot_uniform_fills_the_interval_evenly():
    values = glorot_uniform((200, 500), random(), tf_shape=(1, 2))  # limit sqrt(6 / 3) = 1.414
    assert values.shape == (200, 500)
    assert values.abs().max().item() == pytest.approx(2**0.5, rel=1e-3)
    assert values.mean().item() == pytest.approx(0, abs=0.01)
    assert values.std().item() == pytest.approx((2 / 3) ** 0.5, rel=0.01)  # limit / sqrt 3


def test_truncated_normal_draws_again_beyond_two_deviations():
    values = truncated_normal((100_000,), random())
    assert values.abs().max().item() <= 0.1
    # A normal cut at 2 has the deviation 0.8796; clamping at 2 instead would give 0.959, and no cut 1.
    assert values.std().item() == pytest.approx(0.05 * 0.8796, rel=0.01)
    # P(|z| > 1 | |z| < 2) = (0.3173 - 0.0455) / 0.9545
    assert (values.abs() > 0.05).float().mean().item() == pytest.approx(0.2848, rel=0.02)


def test_truncated_normal_scales_with_std():
    values = truncated_normal((100_000,), random(), std=2.0)
    assert values.std().item() == pytest.approx(2 * 0.8796, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_and_generators(dtype):
    def draw(seed: int) -> list[torch.Tensor]:
        return [
            glorot_uniform((3, 4), random(seed), (3, 4), dtype),
            truncated_normal((3, 4), random(seed), dtype=dtype),
        ]

    state = torch.get_rng_state()
    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert {tensor.dtype for tensor in first} == {dtype}
    assert torch.equal(state, torch.get_rng_state())


def test_constant():
    assert constant((2,), 0.2).tolist() == pytest.approx([0.2, 0.2])
    assert constant((2, 3), 1.0, torch.float64).dtype == torch.float64
