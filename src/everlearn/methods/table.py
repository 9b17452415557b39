"""The methods by name, and what makes each: what differs in rule or options alone has no file of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from everlearn.methods.apd import ApdNet
from everlearn.methods.base import Method
from everlearn.methods.brute_force import BruteForce
from everlearn.methods.darts import Darts
from everlearn.methods.den import Den
from everlearn.methods.ewc import Ewc
from everlearn.methods.expansion import Expansion
from everlearn.methods.feature_extraction import FeatureExtraction
from everlearn.methods.fine_tuning import FineTuning
from everlearn.methods.from_trained import FactorisedFromTrained
from everlearn.methods.joint import JointTraining
from everlearn.methods.l2 import L2
from everlearn.methods.lasem import Lasem
from everlearn.methods.lwf import Lwf
from everlearn.methods.progressive import ProgressiveNet
from everlearn.methods.static import StaticTransfer
from everlearn.sharing.additive import Additive
from everlearn.sharing.deconvolution import Deconvolution
from everlearn.sharing.deconvolution_direct import DeconvolutionDirect
from everlearn.sharing.deconvolution_tc2 import DeconvolutionTC2
from everlearn.sharing.deconvolving import AUTHORS_SIZES
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.sharing.own import Own
from everlearn.sharing.rule import SharingRule
from everlearn.sharing.tucker import Tucker

_Deconvolving = TypeVar("_Deconvolving", Deconvolution, DeconvolutionDirect, DeconvolutionTC2)


@dataclass(frozen=True)
class Setting:
    """What a method may need to know to choose its published sizes.

    Attributes:
        backbone: name of the backbone.
        tasks: how many tasks the stream holds.
    """

    backbone: str
    tasks: int

    @property
    def sizes(self) -> str:
        """Key of the published channel lists: the backbone's name, and for MNIST the number of tasks as well."""
        return f"mnist-{10 if self.tasks > 5 else 5}" if self.backbone == "mnist" else self.backbone


@dataclass(frozen=True)
class Entry:
    """A method of the table.

    Attributes:
        about: one line for people, with its source.
        make: the method in a setting.
        variant: what is appended to the backbone's name ("large").
        chooses: whether it chooses which blocks transfer, so that its size is known when it has.
        grows: whether an option says by how much it grows with each task, so that its size is that option's.
    """

    about: str
    make: Callable[[Setting], Method]
    variant: str = ""
    chooses: bool = False
    grows: bool = False


def _static(rule: Callable[[Setting], Any], shared_head: bool = False) -> Callable[[Setting], Method]:
    return lambda setting: StaticTransfer(rule(setting), shared_head=shared_head)


def _published(rule: type[_Deconvolving], sizes: str) -> _Deconvolving:
    """A rule with its authors' channels where they ran such a network, else by the papers' rule of thirds."""
    return rule.authors(sizes) if sizes in AUTHORS_SIZES[rule.name] else rule()


_RULES: dict[str, Callable[[Setting], SharingRule]] = {
    "hps": lambda s: Hard(),
    "tf": lambda s: Factors(),
    "df-cnn": lambda s: _published(Deconvolution, s.sizes),
    "df-cnn.direct": lambda s: _published(DeconvolutionDirect, s.sizes),
    "df-cnn.tc2": lambda s: _published(DeconvolutionTC2, s.sizes),
    "apd": lambda s: Additive(),
}
"""The rules whose blocks a method may choose to transfer, by the name of the method that transfers them all."""


def _over_rules(prefix: str, about: str, method: Callable[[SharingRule], Method]) -> "dict[str, Entry]":
    """An entry for every such rule: `prefix-hps` and so on."""

    def entry(name: str, rule: Callable[[Setting], SharingRule]) -> Entry:
        return Entry(about.format(name), lambda setting: method(rule(setting)), chooses=True)

    return {f"{prefix}-{name}": entry(name, rule) for name, rule in _RULES.items()}


METHODS: dict[str, Entry] = {
    "stl": Entry("single-task learning: a network for each task", _static(lambda s: Own())),
    "stl-large": Entry("the same with the larger network of the papers", _static(lambda s: Own()), "large"),
    "hps": Entry("hard parameter sharing: one trunk, a head a task (Caruana 1993)", _static(lambda s: Hard())),
    "snn": Entry("one network and one head for all tasks", _static(lambda s: Hard(), shared_head=True)),
    "tf": Entry(
        "tensor factorisation: a shared core, square factors a task (Bulat 2020; Lee 2021)",
        _static(_RULES["tf"]),
    ),
    "dmtrl": Entry(
        "tensor factorisation over all tasks at once (Yang 2017); for the multi-task protocol",
        _static(lambda s: Tucker(s.tasks)),
    ),
    "dmtrl-from-stl": Entry(
        "the same, from trained single-task networks: TF (Distillation) of Lee 2019",
        lambda s: FactorisedFromTrained(Tucker(s.tasks)),
    ),
    "df-cnn": Entry(
        "deconvolutional factorisation: filters made from a small knowledge base (Lee 2019)",
        _static(_RULES["df-cnn"]),
    ),
    "df-cnn-reduced": Entry(
        "the same, about as large as HPS (2.8M for CIFAR-100; Lee 2019)",
        _static(lambda s: _published(Deconvolution, f"{s.sizes}-reduced")),
        "reduced",
    ),
    "df-cnn.direct": Entry(
        "the same without the contraction (Lee 2019, App. A)",
        _static(_RULES["df-cnn.direct"]),
    ),
    "df-cnn.tc2": Entry(
        "the same with two contractions (Lee 2019, App. A)",
        _static(_RULES["df-cnn.tc2"]),
    ),
    "apd": Entry(
        "additive parameter decomposition: a shared layer, masked, and a sparse addition a task (Yoon 2020)",
        _static(_RULES["apd"]),
    ),
    "apd-net": Entry(
        "APD(2) as published: old additions follow, groups of tasks share (Yoon 2020)", lambda s: ApdNet()
    ),
    "apd-net-flat": Entry("APD(1): the same without groups (Yoon 2020)", lambda s: ApdNet(consolidate_every=0)),
    "prognn": Entry(
        "progressive networks: a column for each task, which reads those before it (Rusu 2016; Lee 2019)",
        lambda s: ProgressiveNet(),
    ),
    "den": Entry(
        "dynamically expandable network: retrains what a task needs, grows, splits what drifted (Yoon 2018)",
        lambda s: Den(),
        grows=True,
    ),
    "den-authors": Entry(
        "the same as its authors' code has it",
        lambda s: Den(
            mu=1e-5,
            gamma=1e-3,
            zero=0.0,
            selecting="all",
            outputs="first",
            inputs="all",
            proximal="fixed",
            loss_of="batch",
            splitting="expanded",
            split_most=10,
            copies="old",
            edges="copied",
        ),
        grows=True,
    ),
    "den-selective": Entry(
        "selective retraining alone: no new units, no splitting (Yoon 2018, Fig. 4)",
        lambda s: Den(tau=float("inf"), splitting="never"),
    ),
    "den-constant": Entry(
        "k new units in each layer for each task, whether needed or not (Yoon 2018, Fig. 4)",
        lambda s: Den(tau=0.0, gamma=0.0, splitting="never"),
        grows=True,
    ),
    "den-no-split": Entry(
        "without splitting: DEN-Dynamic (Yoon 2018, Fig. 4)", lambda s: Den(splitting="never"), grows=True
    ),
    "den-no-stamp": Entry(
        "without time stamps: every task sees every unit (Yoon 2018, Fig. 5)", lambda s: Den(stamped=False), grows=True
    ),
    "den-finetune": Entry(
        "and at last all tasks together in the structure that it found (Yoon 2018, Fig. 3)",
        lambda s: Den(tune_after=s.tasks),
        grows=True,
    ),
    "fine-tuning": Entry("train on from what the last task left (Girshick 2014; Li 2016)", lambda s: FineTuning()),
    "duplicate-and-fine-tune": Entry(
        "the same on a copy of the first task's network for each task (Li 2016, Fig. 1)",
        lambda s: FineTuning(configuration="none"),
    ),
    "feature-extraction": Entry(
        "the first task's network stays, new tasks get a two-layer classifier on it (Donahue 2014; Li 2016)",
        lambda s: FeatureExtraction(),
    ),
    "lwf": Entry("learning without forgetting: old tasks' answers to new images are held (Li 2016)", lambda s: Lwf()),
    "joint": Entry("all tasks' images together, kept for that (Caruana 1997; Li 2016)", lambda s: JointTraining()),
    "mtl": Entry(
        "multi-task learning, all tasks seen so far together: joint training without a warm-up (Yoon 2018)",
        lambda s: JointTraining(warm_up=0.0),
    ),
    "l2": Entry("shared weights are held near where they were (Li 2016, Sec. 4.2)", lambda s: L2()),
    "dnn-l2": Entry("the same without a warm-up of the head (Yoon 2018)", lambda s: L2(warm_up=0.0)),
    "ewc": Entry(
        "elastic weight consolidation: weights are held as firmly as old tasks need them (Kirkpatrick 2017)",
        lambda s: Ewc(),
    ),
    "ewc-online": Entry(
        "the same with one spring, fixed anew after each task (Schwarz 2018)", lambda s: Ewc(springs="online")
    ),
    "expansion": Entry(
        "new nodes in the top layers for each new task, all else frozen (Li 2016, Sec. 4.2)",
        lambda s: Expansion(),
        grows=True,
    ),
    "expansion-lwf": Entry(
        "the same, everything trained by learning without forgetting (Li 2016, Sec. 4.2)",
        lambda s: Lwf(nodes=Expansion().nodes),
        grows=True,
    ),
    **_over_rules("lasem", "{} in the blocks that expectation-maximisation chooses for each task (Lee 2021)", Lasem),
    **_over_rules(
        "darts", "{} in the blocks that a relaxed, differentiable search chooses (Liu 2018; Lee 2021)", Darts
    ),
    **_over_rules("brute-force", "{} with the configuration that validates best, of all, each trained", BruteForce),
}
