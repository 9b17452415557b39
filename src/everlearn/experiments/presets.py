"""What each stream is run with unless something else is asked for: backbone, training, methods, trials."""

from dataclasses import dataclass, replace

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
        first: how the first task's network is trained, once a trial, before every method goes on from it; None: each
            method learns the first task itself.
    """

    backbone: str
    training: Training
    methods: tuple[str, ...] = _LEE_2019
    trials: int = 5
    first: Training | None = None


_LI_2016 = ("lwf", "fine-tuning", "feature-extraction", "joint")
_OLD = Training(
    epochs=12, batch=128, optimiser="sgd", rate=0.05, schedule="step", momentum=0.9, weight_decay=5e-4,
    evaluate_every=6, evaluate_others_every=12,
)  # fmt: skip
_NEW = replace(_OLD, epochs=20, batch=32, rate=0.005, evaluate_every=2, evaluate_others_every=10)
"""A tenth of the rate that the old task was trained with; the paper has a tenth to a fiftieth."""


def _small_pair(backbone: str, old: Training = _OLD, new: Training = _NEW) -> Preset:
    return Preset(backbone, new, _LI_2016, trials=3, first=old)


_PAIR = Preset(
    "timm:vgg16.tv_in1k",
    Training(
        epochs=40, batch=32, optimiser="sgd", rate=5e-4, schedule="plateau", momentum=0.9, weight_decay=5e-4,
        augment="crop+flip+colour", evaluate_every=1, evaluate_others_every=10,
    ),
    _LI_2016[:3],
    trials=1,
)  # fmt: skip
"""As Li and Hoiem trained, on VGG: timm has no AlexNet. Joint training needs the old task's images."""


_YOON_2018 = ("stl", "mtl", "dnn-l2", "ewc", "prognn", "den")
_DEN = Training(
    epochs=30, batch=256, optimiser="adam", rate=1e-3, schedule="cosine", auroc=True,
    evaluate_every=5, evaluate_others_every=30,
)  # fmt: skip
"""After the code of Yoon et al. 2018: Adam at 0.001 and batches of 256. Its rate falls by 0.95 with every 55,000 images
of a task and training ends when the validation loss rests; here the rate falls to zero over each task."""


PRESETS: dict[str, Preset] = {
    "digits": Preset(
        "digits",
        Training(epochs=60, rate=1e-3, decay=1 / 300, reduction="sum", evaluate_every=2, evaluate_others_every=10),
        methods=(*_LEE_2019, "lasem-hps", "lasem-df-cnn", "prognn", "den", "apd-net"),
        trials=3,
    ),
    "cifar100": Preset(
        "cifar",
        Training(reduction="sum", evaluate_every=10, evaluate_others_every=100),
        methods=("stl", "hps", "prognn", "den", "df-cnn"),
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
    "cifar100-to-cifar10": _small_pair("alex-32"),
    "cifar100-to-mnist": _small_pair("alex-32"),
    "pacs-photo-to-cartoon": _small_pair(
        "alex-64", replace(_OLD, epochs=60, batch=32, rate=0.02, evaluate_every=20), replace(_NEW, epochs=15)
    ),
    **{f"imagenet-to-{new}": _PAIR for new in ("voc", "cub", "scenes", "mnist")},
    **{f"places2-to-{new}": _PAIR for new in ("voc", "cub", "scenes")},
    "permuted-mnist": Preset(
        "den-mnist", replace(_DEN, epochs=10, evaluate_every=2, evaluate_others_every=10), _YOON_2018, trials=3
    ),
    "mnist-variation": Preset("den-mnist", _DEN, _YOON_2018, trials=3),
    "cifar100-subtasks": Preset("den-cifar", _DEN, _YOON_2018, trials=1),
    "awa": Preset("den-mnist", replace(_DEN, batch=50), _YOON_2018, trials=3),
    "folders": Preset(
        "cifar", Training(epochs=100, rate=1e-3, decay=1 / 300), methods=("stl", "hps", "df-cnn"), trials=1
    ),
}
"""CIFAR-100 as Lee et al. 2019 ran it: facts of App. B.3, and of the authors' code where the paper is silent."""


def preset_of(stream: str) -> Preset:
    """A stream's defaults; those of `folders` for a stream that has none of its own."""
    return PRESETS.get(stream, PRESETS["folders"])
