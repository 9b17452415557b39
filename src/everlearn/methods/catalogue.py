"""The methods by name. A method that differs from another in rule and configuration alone has no file of its own.

A name may carry a configuration: `hps@bottom-2`, `df-cnn@0110`, `tf@all/none/...`; and `file.py:Name` is a method of
the user's own, a class derived from `Method` (made without arguments) or a function of a `Setting` that returns one.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.methods.base import Method
from everlearn.methods.brute_force import BruteForce
from everlearn.methods.darts import Darts
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
from everlearn.plugins import is_plugin, load_plugin
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

Value = str | int | float | bool
_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number"}
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
    "prognn": Entry(
        "progressive networks: a column for each task, which reads those before it (Rusu 2016; Lee 2019)",
        lambda s: ProgressiveNet(),
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


def make_method(name: str, backbone: str, tasks: int, options: Mapping[str, Value]) -> Method:
    """A method by name.

    Args:
        name: of the table, or `file.py:Name`; with `@configuration` if wanted.
        backbone: name of the backbone.
        tasks: how many tasks the stream holds.
        options: hyper-parameters by name; those that the method and its rule do not have are left to others.

    Raises:
        UnknownNameError: no such method.
        ConfigurationError: a method that has no configuration to choose, or a value that an option cannot have.
    """
    base, at, configuration = name.partition("@")
    setting = Setting(backbone, tasks)
    if is_plugin(base):
        method = _plugin(base, setting)
    elif base in METHODS:
        method = METHODS[base].make(setting)
    else:
        raise UnknownNameError("method", base, METHODS)
    given: dict[str, Value] = dict(options)
    if at:
        if "configuration" not in {f.name for f in fields(cast(Any, method))}:
            raise ConfigurationError(f"{base!r} has no configuration to choose; leave out '@{configuration}'.")
        given["configuration"] = configuration
    return with_options(method, given)


def plain_name(method: str) -> str:
    """A method's name without its configuration."""
    return method.partition("@")[0]


def network_name(method: str, backbone: str) -> str:
    """The backbone that a method uses where `backbone` is asked for: some methods have a larger or smaller one."""
    entry = METHODS.get(plain_name(method))
    return f"{backbone}-{entry.variant}" if entry and entry.variant else backbone


def option_names(method: Method) -> list[str]:
    """The hyper-parameters of a method and its rule."""
    names = [f.name for f in fields(cast(Any, method)) if f.name != "rule"]
    rule = getattr(method, "rule", None)
    return names + ([f.name for f in fields(rule)] if is_dataclass(rule) else [])


def with_options(method: Method, options: Mapping[str, Value]) -> Method:
    """The method with those of the options that it or its rule has."""
    rule = getattr(method, "rule", None)
    if rule is not None and is_dataclass(rule):
        method = replace(cast(Any, method), rule=_replaced(rule, options))
    return cast(Method, _replaced(method, options))


def _replaced(thing: Any, options: Mapping[str, Value]) -> Any:
    changes = {f.name: _like(f, options[f.name]) for f in fields(thing) if f.name in options}
    return replace(thing, **changes) if changes else thing


def _like(field: Any, value: Value) -> Any:
    """A value of the field's kind: numbers and truth values from text, tuples of numbers from "16,24"."""
    default = field.default
    if isinstance(value, str) and (default is None or default is MISSING or isinstance(default, tuple)):
        parts = value.split(",")
        if all(part.strip().isdecimal() for part in parts):
            return tuple(int(part) for part in parts)
        return value
    if isinstance(default, str):
        return str(value)  # "12" from a file may have come as a number
    if default is MISSING or default is None:
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[str(value).lower()]
        return type(default)(value)
    except (ValueError, KeyError):
        kind = _KINDS.get(cast(type, type(default)), "a number")
        raise ConfigurationError(f"the option {field.name} needs {kind}, but came as {value!r}.") from None


def _plugin(name: str, setting: Setting) -> Method:
    found: Any = load_plugin("method", name)
    method: object = found() if isinstance(found, type) else found(setting) if callable(found) else found
    if not isinstance(method, Method):
        raise ConfigurationError(f"{name} is no method: it needs to be a class derived from everlearn.Method.")
    return method
