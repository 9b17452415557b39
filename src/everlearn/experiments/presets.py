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


_LEE_2019_TOGETHER = ("stl", "hps", "dmtrl", "df-cnn.direct", "df-cnn", "df-cnn.tc2")
"""Of Table 1; Table 2 has the next two as well."""
_REDUCED = "df-cnn-reduced+kb_channels=8,8,16,16+deconv_channels=16,16,32,32"
"""The reduced DF-CNN of CIFAR-10 is smaller than CIFAR-100's: 2.3M and 1.2M parameters (Table 2)."""
_LEE_2021 = Training(epochs=1000, batch=16, rate=2e-5, decay=1e-4, evaluate_every=10, evaluate_others_every=100)
"""Office-Home as Lee et al. 2021 trained on it, by their code: mean losses, and a decay that the paper omits."""
_SELECTIVE = ("stl", "hps", "tf", "df-cnn+bias_start=lasem", "lasem-hps", "lasem-tf", "lasem-df-cnn+bias_start=lasem")
_STL10 = Training(epochs=500, schedule="constant", evaluate_every=10, evaluate_others_every=100)


PRESETS: dict[str, Preset] = {
    "digits": Preset(
        "digits",
        Training(epochs=60, rate=1e-3, decay=1 / 300, reduction="sum", evaluate_every=2, evaluate_others_every=10),
        methods=(*_LEE_2019, "lasem-hps", "lasem-df-cnn", "prognn", "den+k=4+sigma=0.1", "apd-net"),
        trials=3,
    ),
    "cifar100": Preset(
        "cifar",
        Training(reduction="sum", evaluate_every=10, evaluate_others_every=100),
        methods=("stl", "hps", "prognn", "den", "df-cnn"),
    ),
    "mnist": Preset(
        "mnist",
        Training(
            protocol="multi-task", epochs=500, batch=10, rate=1e-3, decay=1 / 250, reduction="sum", evaluate_every=20
        ),
        _LEE_2019_TOGETHER,
        trials=10,
    ),
    "cifar10": Preset(
        "cifar",
        Training(
            protocol="multi-task", epochs=2000, batch=20, rate=2.5e-4, decay=1e-3, reduction="sum", evaluate_every=50
        ),
        (*_LEE_2019_TOGETHER, _REDUCED, "dmtrl-from-stl"),
        trials=10,
    ),
    "office-home": Preset(
        "office-home",
        Training(epochs=1000, batch=16, rate=5e-6, decay=1e-3, reduction="sum"),
        ("stl", "hps", "prognn", "den", "df-cnn"),
    ),
    "office-home-incremental": Preset("office-home", _LEE_2021, _SELECTIVE),
    "pacs": Preset(
        "office-home",
        replace(_LEE_2021, epochs=40, rate=1e-4, evaluate_every=4, evaluate_others_every=20),
        ("stl", "hps", "tf", "df-cnn"),
        trials=1,
    ),
    "stl10": Preset("stl10-6", _STL10, _SELECTIVE),
    "stl10-five-way": Preset(
        "stl10-9",
        _STL10,
        (
            "df-cnn+bias_start=lasem",
            "lasem-df-cnn+bias_start=lasem+groups=1-3/4-6/7-9",
            "lasem-df-cnn+bias_start=lasem",
        ),
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
"""The papers' sets as Lee et al. 2019 and 2021 ran them: facts of their App. B.3 and A, and of the authors' code where
the papers are silent. The multi-task tables are of ten trials in the paper, of five in its code. `pacs` is ours."""


def preset_of(stream: str) -> Preset:
    """A stream's defaults; those of `folders` for a stream that has none of its own."""
    return PRESETS.get(stream, PRESETS["folders"])
