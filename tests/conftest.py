"""Shapes and types of everlearn's functions are checked at run time, in the tests and nowhere else."""

from collections.abc import Callable

import jaxtyping
import pytest
import torch
from jaxtyping import install_import_hook

import tests.checking

jaxtyping.jaxtyped = tests.checking.jaxtyped  # what the hook decorates with
install_import_hook("everlearn", "tests.checking.checked")

from everlearn.tasks.task import TaskStream  # noqa: E402 (after the hook that checks it)
from everlearn.testing.methods import made_stream  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def tiny_stream() -> Callable[..., TaskStream]:
    return made_stream
