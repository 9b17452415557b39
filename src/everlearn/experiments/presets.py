"""What each stream is run with unless something else is asked for: backbone, training, methods, trials."""

from dataclasses import dataclass

from everlearn.training.settings import Training

_LEE_2019 = ("stl", "hps", "tf", "df-cnn", "df-cnn.direct", "df-cnn.tc2")


@dataclass(frozen=True)
class Preset:
    """Defaults of a stream.

    Attributes:
        backbone: a name of the table of backbones.
        training: the published protocol, where there is one.
        methods: what `everlearn run STREAM` compares.
        trials: independent runs of each.
    """

    backbone: str
    training: Training
    methods: tuple[str, ...] = _LEE_2019
    trials: int = 5


PRESETS: dict[str, Preset] = {
    "digits": Preset(
        "digits",
        Training(epochs=60, rate=1e-3, decay=1 / 300, reduction="sum", evaluate_every=2, evaluate_others_every=10),
        methods=(*_LEE_2019, "lasem-hps", "lasem-df-cnn"),
        trials=3,
    ),
    "cifar100": Preset(
        "cifar",
        Training(reduction="sum", evaluate_every=10, evaluate_others_every=100),
        methods=("stl", "hps", "df-cnn"),
    ),
    "planted": Preset(
        "planted",
        Training(
            epochs=16,
            batch=8,
            optimiser="adam",
            rate=5e-3,
            schedule="constant",
            evaluate_every=4,
            evaluate_others_every=16,
        ),
        methods=("stl", "hps", "hps@10", "hps@01", "lasem-hps", "brute-force-hps"),
        trials=3,
    ),
    "folders": Preset(
        "cifar", Training(epochs=100, rate=1e-3, decay=1 / 300), methods=("stl", "hps", "df-cnn"), trials=1
    ),
}
"""CIFAR-100 as Lee et al. 2019 ran it: facts of App. B.3, and of the authors' code where the paper is silent."""


def preset_of(stream: str) -> Preset:
    """A stream's defaults; those of `folders` for a stream that has none of its own."""
    return PRESETS.get(stream, PRESETS["folders"])
