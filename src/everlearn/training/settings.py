"""How networks are trained: everything about a run that is neither its data, its network nor its method."""

import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from everlearn.errors import ConfigurationError, EverlearnWarning, check_not_negative

READ_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimiser", ("sgd", "rmsprop")),
    "weight_decay": ("optimiser", ("sgd", "adam", "adamw", "rmsprop")),
    "beta1": ("optimiser", ("adam", "adamw")),
    "beta2": ("optimiser", ("adam", "adamw")),
    "decay": ("schedule", ("hyperbolic", "exponential")),
    "drop_at": ("schedule", ("step",)),
    "patience": ("schedule", ("plateau",)),
}
"""Settings that only some optimisers or schedules read: of which setting, and which of its values."""


@dataclass(frozen=True)
class Training:
    """Settings of the loop. The defaults are those of the DF-CNN paper's CIFAR-100 experiment, as its authors ran it.

    Attributes:
        protocol: `lifelong`: the tasks one after the other, `epochs` each. `multi-task`: all tasks together; each
            epoch trains one task drawn at random, `epochs` in all (Lee et al. 2019, App. B.1).
        epochs: passes over the training data, per task (lifelong) or in all (multi-task).
        batch: images a step; what is left of an epoch after whole batches is dropped, as the authors do.
        optimiser: `tf1-rmsprop` (the papers'), or torch's `sgd`, `adam`, `adamw`, `rmsprop`.
        rate: learning rate lr0.
        schedule: `hyperbolic`: lr0 / (1 + decay * e), e the epochs of the whole sequence so far (the papers').
            `exponential`: lr0 * exp(-decay * e). `constant`. `cosine`: to zero over each stage. `step`: one tenth
            from a share of each stage on. `plateau`: one tenth, once a stage, when the accuracy on the validation
            images has not risen for some epochs.
        decay: kappa of the hyperbolic and exponential schedules.
        drop_at: share of a stage after which `step` drops the rate.
        patience: epochs without a better validation accuracy after which `plateau` drops the rate; it is known to
            the spacing of the evaluations.
        momentum: of `sgd` and `rmsprop`.
        weight_decay: of the torch optimisers.
        beta1: decay of the mean of gradients of `adam` and `adamw`.
        beta2: decay of the mean of squares of `adam` and `adamw`.
        reduction: the loss of a batch is the `mean` of its examples' losses, or their `sum` (the DF-CNN authors').
        augment: changes to training images, drawn anew for each batch, joined by "+": `crop` (of the image, padded by
            an eighth of its side), `flip` (left and right), `colour` (jitter). Needs `everlearn[augment]`.
        evaluate_every: epochs between two evaluations of the task in training.
        evaluate_others_every: epochs between two evaluations of the tasks learned before. In the multi-task
            protocol every task is evaluated after `evaluate_every` epochs.
        validate_others: whether tasks learned before are evaluated on their validation images as well, which shows what
            is forgotten without a look at test images.
        auroc: whether the area under the ROC curve is measured on the test images as well: the mean over classes, each
            against the rest (Yoon et al. 2018).
        memory_format: of the images, `channels_last` or `contiguous`; on a GPU only layers in bfloat16 have the former.
        precision: of the layers in training steps, `float32` or `bfloat16` (autocast; parameters, losses and
            evaluations stay in float32). Fast where the processor computes with it, slow elsewhere.
        graphs: whether a GPU's training steps are recorded as CUDA graphs where they can be: with `tf1-rmsprop`, of
            most methods; those with augmentation and those of several processes are taken as they are.

    Raises:
        ConfigurationError: a number out of range.
    """

    protocol: Literal["lifelong", "multi-task"] = "lifelong"
    epochs: int = 2000
    batch: int = 10
    optimiser: Literal["tf1-rmsprop", "sgd", "adam", "adamw", "rmsprop"] = "tf1-rmsprop"
    rate: float = 1e-4
    schedule: Literal["hyperbolic", "exponential", "constant", "cosine", "step", "plateau"] = "hyperbolic"
    decay: float = 1 / 4000
    drop_at: float = 0.75
    patience: int = 10
    momentum: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    reduction: Literal["mean", "sum"] = "mean"
    augment: str = ""
    evaluate_every: int = 10
    evaluate_others_every: int = 100
    validate_others: bool = False
    auroc: bool = False
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    precision: Literal["float32", "bfloat16"] = "float32"
    graphs: bool = True

    @property
    def compared(self) -> "Training":
        """The settings by which runs are told apart: without `graphs`, which says how a GPU takes the same steps."""
        return replace(self, graphs=True)

    def reads(self, name: str) -> bool:
        """Whether a setting changes anything beside the others."""
        return name not in READ_BY or getattr(self, READ_BY[name][0]) in READ_BY[name][1]

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "patience", "evaluate_every", "evaluate_others_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"{name} needs a whole number of at least 1, but came as {getattr(self, name)}."
                )
        check_not_negative(self, "decay", "weight_decay")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} needs a number from 0 to below 1, but came as {getattr(self, name)}.")
        if not 0 < self.drop_at <= 1:
            raise ConfigurationError(f"drop_at needs a share above 0 and at most 1, but came as {self.drop_at}.")
        if self.schedule == "plateau" and self.protocol == "multi-task":
            raise ConfigurationError("the schedule plateau follows one task's accuracy; with multi-task take another.")
        if not 0 < self.rate < float("inf"):
            raise ConfigurationError(f"rate needs a number above 0, but came as {self.rate}.")


def warn_of_unread(said: Container[str], trainings: Sequence[Training]) -> None:
    """Warn of settings that were said and that none of these trainings reads, but for those at their defaults."""
    for name, (of, readers) in READ_BY.items():
        moved = any(getattr(one, name) != getattr(Training, name) for one in trainings)
        if name in said and moved and not any(one.reads(name) for one in trainings):
            warnings.warn(
                f"{name} changes nothing: it is of the {of} {' or '.join(readers)}, and the {of} here is "
                f"{getattr(trainings[0], of)}; give --set {of}={readers[0]} as well, or leave {name} out.",
                EverlearnWarning,
                stacklevel=4,
            )
