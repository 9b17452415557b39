"""The stream of digits: exact sizes, no leak between splits or tasks, everything from the seed."""

import pytest
import torch

from everlearn.errors import ConfigurationError
from everlearn.tasks import TaskStream, fingerprint, make_stream
from everlearn.tasks.digits import load_digits
from tests.tasks.made import rows_of

# Images a digit in scikit-learn's set, and 40 % of them for the test, 20 % for validation, rounded:
# 178 -> 71 and 36, the rest 71; 182 -> 73 (72.8) and 36 (36.4), the rest 73; and so on.
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
TEST = [71, 73, 71, 73, 72, 73, 72, 72, 70, 72]
VALIDATION = [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]


def digit_of() -> dict[bytes, int]:
    whole = load_digits()
    return dict(zip(rows_of(whole.images), whole.labels.tolist(), strict=True))


def test_the_source_is_all_digits_between_0_and_1() -> None:
    whole = load_digits()
    assert whole.images.shape == (1797, 1, 8, 8)
    assert torch.bincount(whole.labels).tolist() == COUNTS
    assert (whole.images.min(), whole.images.max()) == (0, 1)
    assert whole.images[0, 0, 0, 2] == 5 / 16  # the first image's first row is 0 0 5 13 9 1 0 0


@pytest.mark.parametrize("train", [0, 20, 60])
def test_pairs_have_their_sizes_and_labels(train: int) -> None:
    stream = make_stream("digits", 5, options={"train": train})
    digits = digit_of()
    assert [task.name for task in stream.tasks] == ["0-vs-1", "2-vs-3", "4-vs-5", "6-vs-7", "8-vs-9"]
    assert stream.image_shape == (1, 8, 8)
    for i, task in enumerate(stream.tasks):
        pair = (2 * i, 2 * i + 1)
        assert task.classes == (str(pair[0]), str(pair[1]))
        pools = [COUNTS[digit] - TEST[digit] - VALIDATION[digit] for digit in pair]
        assert torch.bincount(task.train.labels).tolist() == ([train // 2] * 2 if train else pools)
        assert torch.bincount(task.validation.labels).tolist() == [VALIDATION[digit] for digit in pair]
        assert torch.bincount(task.test.labels).tolist() == [TEST[digit] for digit in pair]
        for split in task.splits().values():
            assert [digits[row] for row in rows_of(split.images)] == [pair[label] for label in split.labels.tolist()]


@pytest.mark.parametrize("train", [0, 20])
def test_one_against_rest_is_half_positives_and_deals_out_the_rest(train: int) -> None:
    stream = make_stream("digits", 5, options={"tasks": "one-against-rest", "train": train})
    digits = digit_of()
    assert [task.name for task in stream.tasks] == [f"{digit}-vs-rest" for digit in range(10)]
    for digit, task in enumerate(stream.tasks):
        assert task.classes == ("rest", str(digit))
        pool = COUNTS[digit] - TEST[digit] - VALIDATION[digit]
        halves = {"train": train // 2 or pool, "validation": VALIDATION[digit], "test": TEST[digit]}
        for name, split in task.splits().items():
            shown = torch.tensor([digits[row] for row in rows_of(split.images)])
            assert torch.bincount(split.labels).tolist() == [halves[name]] * 2
            assert torch.equal(split.labels, (shown == digit).long())
            shares = torch.bincount(shown, minlength=10).tolist()
            shares.pop(digit)
            assert max(shares) - min(shares) <= 1
            assert len(set(rows_of(split.images))) == len(split)


@pytest.mark.parametrize("tasks", ["pairs", "one-against-rest"])
def test_no_image_is_in_two_kinds_of_split_of_any_tasks(tasks: str) -> None:
    stream = make_stream("digits", 1, options={"tasks": tasks, "train": 0})
    kinds = {
        kind: {row for task in stream.tasks for row in rows_of(task.splits()[kind].images)}
        for kind in ("train", "validation", "test")
    }
    assert len(set(rows_of(load_digits().images))) == 1797
    assert not kinds["train"] & kinds["test"]
    assert not kinds["train"] & kinds["validation"]
    assert not kinds["validation"] & kinds["test"]
    if tasks == "pairs":
        assert sum(map(len, kinds.values())) == 1797


def test_everything_comes_from_the_seed() -> None:
    def made(seed: int, **options: str | int) -> TaskStream:
        return make_stream("digits", seed, options=options)

    assert fingerprint(made(1)) == fingerprint(made(1))
    assert (
        len({fingerprint(made(seed, tasks=tasks)) for seed in (0, 1) for tasks in ("pairs", "one-against-rest")}) == 4
    )


def test_more_training_images_contain_the_fewer() -> None:
    few, many = (make_stream("digits", 2, options={"train": train}).tasks[3] for train in (20, 40))
    assert set(rows_of(few.train.images)) < set(rows_of(many.train.images))
    assert torch.equal(few.test.images, many.test.images)


def test_the_default_is_forty_of_a_pair() -> None:
    stream = make_stream("digits")
    assert stream.options == {"tasks": "pairs", "train": 40}
    assert [len(task.train) for task in stream.tasks] == [40] * 5


def test_numbers_that_cannot_be_halved_or_had() -> None:
    for odd in (21, -2):
        with pytest.raises(ConfigurationError, match=f"even number of images .* but came as {odd}"):
            make_stream("digits", options={"train": odd})
    # The smallest pool is that of the digit 8, 174 - 70 - 35 = 69, so 138 a task.
    for tasks in ("pairs", "one-against-rest"):
        assert len(make_stream("digits", options={"train": 138, "tasks": tasks}).tasks[4].train) == 138
        with pytest.raises(ConfigurationError, match=r"^train is at most 138 .* came as 140; 0 takes"):
            make_stream("digits", options={"train": 140, "tasks": tasks})
