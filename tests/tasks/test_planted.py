"""Made tasks: what they have in common is in the images, exactly."""

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError
from everlearn.tasks import fingerprint, make_stream
from everlearn.tasks.planted import CLASSES, MAPS, RING, SIZES, map_of, mixing, rings

SHARED = pytest.mark.parametrize("shared", ["low", "high"])


def stream(shared: str, seed: int = 0, count: int = 3):  # type: ignore[no-untyped-def]
    return make_stream("planted", seed, None, {"shared": shared, "count": count})


def unmixed(shared: str, seed: int, task: int, split: str = "test") -> torch.Tensor:
    """The latent maps of a task's images, `[N, maps, 8, 8]`: A is orthogonal, so its transpose undoes it."""
    images = stream(shared, seed).tasks[task].splits()[split].images / 2
    return torch.einsum("ck,nchw->nkhw", torch.from_numpy(mixing(seed) / 4).float(), images)


def test_the_mixing_is_orthogonal() -> None:
    a = mixing(0)
    assert set(np.unique(a)) == {-1, 1}
    assert np.array_equal(a @ a.T, 16 * np.eye(16))
    assert not np.array_equal(a, mixing(1))


@SHARED
def test_the_rings_stand_in_the_tasks_map_and_nowhere_else(shared: str) -> None:
    for task in range(3):
        power = unmixed(shared, 0, task).square().mean((0, 2, 3))
        inside = map_of(shared, task)
        assert inside == (0 if shared == "low" else task)
        # Noise alone has 0.3^2 = 0.09; four rings of eight ones on 64 pixels add 32 / 64 = 0.5.
        expected = torch.full((MAPS,), 0.09)
        expected[inside] += 0.5
        torch.testing.assert_close(power, expected, rtol=0, atol=0.02)


@SHARED
def test_three_of_four_rings_tell_the_class(shared: str) -> None:
    for task in (0, 2):
        latent = unmixed(shared, 0, task)[:, map_of(shared, task)]
        kinds = torch.from_numpy(rings(0, shared, task)).float()
        labels = stream(shared).tasks[task].test.labels
        found = torch.zeros(len(labels), 7)
        for top in (0, 1, 4, 5):
            for left in (0, 1, 4, 5):
                values = torch.stack([latent[:, top + down, left + right] for down, right in RING], 1)
                found += ((values @ kinds.T) / 8 > 0.7).float()
        assert torch.equal(found[:, :CLASSES].argmax(1), labels), "the ring that is there three times is the class"
        assert (found[:, :CLASSES].sum(1) == 3).float().mean() > 0.9
        assert (found[:, CLASSES:].sum(1) == 1).float().mean() > 0.9


def test_what_tasks_have_in_common() -> None:
    assert np.array_equal(rings(0, "high", 0), rings(0, "high", 5))
    assert not np.array_equal(rings(0, "low", 0), rings(0, "low", 5))
    for shared in ("low", "high"):
        kinds = rings(0, shared, 1)
        assert np.array_equal(kinds @ kinds.T, 8 * np.eye(7)), "no kind of ring resembles another"


@SHARED
def test_sizes_and_splits(shared: str) -> None:
    made = stream(shared)
    assert made.image_shape == (16, 8, 8)
    for task in made.tasks:
        for name, split in task.splits().items():
            assert split.labels.bincount().tolist() == [SIZES[name] // CLASSES] * CLASSES
        rows = torch.cat([split.images.flatten(1) for split in task.splits().values()])
        assert len(rows.unique(dim=0)) == len(rows), "no image stands in two splits"
    assert len(make_stream("planted", 0).tasks) == 11


def test_the_same_images_for_the_same_seed_on_any_machine() -> None:
    assert fingerprint(stream("low", count=11)).startswith("e216dea154df52d2")
    assert fingerprint(stream("high", count=11)).startswith("a7e6d995e93d171e")
    assert fingerprint(stream("low", seed=1)) != fingerprint(stream("low"))


@pytest.mark.parametrize("count", [0, 17])
def test_more_tasks_than_maps_are_refused(count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"1 to 16 tasks, one a map, but count came as {count}"):
        stream("high", count=count)
