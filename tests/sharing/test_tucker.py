from itertools import product

import pytest
import torch

from everlearn.errors import ConfigurationError, LayerError
from everlearn.sharing import LayerShape, Tucker
from tests.sharing.loops import ordinary, start

CONV = LayerShape((3, 5), 2, 4, bias=True)
LINEAR = LayerShape(None, 4, 3, bias=True)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_convolution_is_the_slice_of_the_product():
    # Sides differ from their ranks or from one another, so that no side can pass for another.
    ranks = (2, 3, 2, 2, 3)
    sides = {"tasks": 3, "outputs": 4, "inputs": 2, "height": 3, "width": 5}
    shared = {"core": draw(*ranks)} | {
        name: draw(sides[name], rank, seed=rank + 1) for name, rank in zip(sides, ranks, strict=True)
    }
    S, T, Out, In, H, B = (shared[name].tolist() for name in ("core", "tasks", "outputs", "inputs", "height", "width"))
    for task in range(3):
        wanted = torch.zeros(4, 2, 3, 5, dtype=torch.float64)
        for o, i, h, w in product(range(4), range(2), range(3), range(5)):
            wanted[o, i, h, w] = sum(
                S[e][d][c][a][b] * T[task][e] * Out[o][d] * In[i][c] * H[h][a] * B[w][b]
                for e, d, c, a, b in product(*map(range, ranks))
            )
        torch.testing.assert_close(Tucker(3).weights(CONV, shared, {}, task)["weight"], wanted)


def test_linear_is_the_slice_of_the_product():
    shared = {
        "core": draw(2, 3, 2),
        "tasks": draw(2, 2, seed=1),
        "outputs": draw(3, 3, seed=2),
        "inputs": draw(4, 2, seed=3),
    }
    S, T, Out, In = (shared[name].tolist() for name in ("core", "tasks", "outputs", "inputs"))
    for task in range(2):
        wanted = [
            [
                sum(S[e][d][c] * T[task][e] * Out[o][d] * In[i][c] for e, d, c in product(range(2), range(3), range(2)))
                for i in range(4)
            ]
            for o in range(3)
        ]
        weight = Tucker(2).weights(LINEAR, shared, {}, task)["weight"]
        torch.testing.assert_close(weight, torch.tensor(wanted, dtype=torch.float64))


def test_random_start_is_uniform_between_zero_and_one():
    layer = LayerShape((3, 3), 8, 16, bias=True)
    shared, own = start(Tucker(4), layer)
    slices = torch.stack([Tucker(4).weights(layer, shared, own, task)["weight"] for task in range(4)])
    assert slices.min().item() > -1e-9
    assert slices.max().item() < 1 + 1e-9
    assert slices.mean().item() == pytest.approx(0.5, abs=0.02)
    assert slices.var().item() == pytest.approx(1 / 12, rel=0.05)
    assert all(not torch.allclose(slices[0], slices[task]) for task in (1, 2, 3))


def test_random_start_has_full_rank_in_a_published_layer():
    layer = LayerShape((5, 5), 1, 32, bias=True)
    shared, own = start(Tucker(10), layer, dtype=torch.float32)
    shapes = {name: tuple(tensor.shape) for name, tensor in shared.items()}
    assert shapes == {
        "core": (10, 32, 1, 5, 5),
        "tasks": (10, 10),
        "outputs": (32, 32),
        "inputs": (1, 1),
        "height": (5, 5),
        "width": (5, 5),
    }
    # 8,000 + 100 + 1,024 + 1 + 25 + 25, and the bias
    assert Tucker(10).counts(layer) == (9175, 32)
    assert sum(tensor.numel() for tensor in own.values()) == 32


def test_matrices_start_orthogonal():
    shared, _ = start(Tucker(3), CONV)
    for name in ("tasks", "outputs", "inputs", "height", "width"):
        matrix = shared[name]
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(matrix.shape[1], dtype=torch.float64))


def test_a_side_longer_than_the_others_together_is_not_counted_twice():
    # one task, 2 inputs, 5 outputs: the side of outputs has rank min(5, 2), so the core is 1 * 2 * 2
    layer = LayerShape(None, 2, 5, bias=False)
    assert Tucker(1).counts(layer) == (4 + 1 * 1 + 5 * 2 + 2 * 2, 0)


@pytest.mark.parametrize("layer", [CONV, LINEAR])
def test_from_trained_reproduces_the_trained_weights(layer):
    trained = [ordinary(layer, seed)["weight"] for seed in range(3)]
    shared = Tucker(3).from_trained(layer, trained)
    for task in range(3):
        torch.testing.assert_close(Tucker(3).weights(layer, shared, {}, task)["weight"], trained[task])


def test_from_trained_cuts_what_the_tasks_have_in_common():
    first = ordinary(CONV)["weight"]
    shared = Tucker(3).from_trained(CONV, [first, 2 * first, -first])
    assert shared["tasks"].shape == (3, 1)
    assert shared["core"].shape[0] == 1
    torch.testing.assert_close(Tucker(3).weights(CONV, shared, {}, 1)["weight"], 2 * first)


@pytest.mark.parametrize(("tolerance", "rank"), [(1e-3, 1), (1e-4, 2)])
def test_tolerance_is_relative_to_the_largest_singular_value(tolerance, rank):
    # Two orthogonal weights, of norm 10 and 0.005: the singular values of the tasks' side, in the ratio 5e-4.
    trained = [torch.zeros(CONV.weight_shape, dtype=torch.float64) for _ in range(2)]
    trained[0][0, 0, 0, 0], trained[1][1, 1, 1, 1] = 10, 0.005
    shared = Tucker(2, tolerance).from_trained(CONV, trained)
    assert shared["tasks"].shape == (2, rank)


def test_bias_is_the_tasks_own_and_starts_as_the_ordinary_one():
    shared, own = start(Tucker(3), CONV)
    assert torch.equal(own["bias"], ordinary(CONV, 1000)["bias"])
    assert Tucker(3).weights(CONV, shared, own, 0)["bias"] is own["bias"]
    assert "bias" not in shared


@pytest.mark.parametrize("task", [3, -1])
def test_no_slice_beyond_the_tasks_it_was_built_for(task):
    shared, own = start(Tucker(3), CONV)
    with pytest.raises(LayerError, match="built for 3 tasks"):
        Tucker(3).weights(CONV, shared, own, task)


def test_trained_weights_that_do_not_fit_are_refused():
    good = ordinary(CONV)["weight"]
    with pytest.raises(LayerError, match="each of 3 tasks, but 2 came"):
        Tucker(3).from_trained(CONV, [good, good])
    with pytest.raises(LayerError, match=r"shape \[4, 2, 3, 5\], but one of \[4, 2, 3, 3\]"):
        Tucker(2).from_trained(CONV, [good, good[..., :3]])
    with pytest.raises(LayerError, match="all zero"):
        Tucker(2).from_trained(CONV, [0 * good, 0 * good])


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, float("nan")])
def test_hyper_parameters_out_of_range(tolerance):
    with pytest.raises(ConfigurationError, match="tolerance"):
        Tucker(2, tolerance)
    with pytest.raises(ConfigurationError, match="at least 1, but came with 0"):
        Tucker(0)
