"""The conformance suite finds faults: one faulty rule for each check."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor

from everlearn.errors import LayerError
from everlearn.sharing import Factors, LayerShape, Own, SharingRule
from everlearn.sharing.rule import Tensors
from everlearn.testing import check_rule
from everlearn.testing.rules import CHECKS, RuleFault, check_hyper_parameters, check_refusal

LAYER = LayerShape((3, 3), 2, 3, bias=True)


@dataclass(frozen=True)
class Transposed(Factors):
    def weights(self, layer, shared, own, task):
        made = super().weights(layer, shared, own, task)
        return made | {"weight": made["weight"].transpose(0, 1)}


@dataclass(frozen=True)
class WithoutBias(Factors):
    def weights(self, layer, shared, own, task):
        return {"weight": super().weights(layer, shared, own, task)["weight"]}


@dataclass(frozen=True)
class NotFinite(Factors):
    def weights(self, layer, shared, own, task):
        made = super().weights(layer, shared, own, task)
        return made | {"bias": made["bias"] / 0}


@dataclass(frozen=True)
class AlwaysSingle(Factors):
    def own(self, layer, ordinary, generator):
        return super().own(layer, {"weight": ordinary["weight"].float()}, generator)

    def weights(self, layer, shared, own, task):
        return super().weights(layer, shared, {name: t.to(shared["core"].dtype) for name, t in own.items()}, task)


@dataclass(frozen=True)
class Miscounted(Factors):
    def counts(self, layer):
        shared, own = super().counts(layer)
        return own, shared


@dataclass(frozen=True)
class DetachedCore(Factors):
    def weights(self, layer, shared, own, task):
        return super().weights(layer, {"core": shared["core"].detach()}, own, task)


@dataclass(frozen=True)
class UnusedParameter(Factors):
    def own(self, layer, ordinary, generator):
        return super().own(layer, ordinary, generator) | {"spare": torch.ones(2)}


@dataclass(frozen=True)
class HalfDetached(Factors):
    def weights(self, layer, shared, own, task):
        made = super().weights(layer, shared, own, task)
        return made | {"weight": made["weight"] + made["weight"].detach()}


@dataclass(frozen=True)
class GlobalDraw(Own):
    def own(self, layer, ordinary, generator):
        return {name: torch.rand_like(tensor) for name, tensor in ordinary.items()}


@dataclass(frozen=True)
class Stateful(Own):
    count: ClassVar[list[int]] = [0]

    def own(self, layer, ordinary, generator):
        self.count[0] += 1
        return {name: tensor + self.count[0] for name, tensor in ordinary.items()}


@dataclass(frozen=True)
class Noisy(Own):
    def weights(self, layer, shared, own, task):
        return own | {"weight": own["weight"] + torch.randn_like(own["weight"])}


@dataclass(frozen=True)
class InPlace(Own):
    def weights(self, layer, shared, own, task):
        own["weight"].data.mul_(2)
        return dict(own)


@dataclass(frozen=True)
class SameDictionary(Own):
    def weights(self, layer, shared, own, task):
        return own


@dataclass(frozen=True)
class OneMemory(Own):
    memory: ClassVar[dict[str, Tensor]] = {}

    def own(self, layer, ordinary, generator):
        for name, tensor in ordinary.items():
            self.memory[name] = self.memory.get(name, tensor.clone())
        return dict(self.memory)


@dataclass(frozen=True)
class Remembering(Own):
    latest: ClassVar[list[Tensors]] = []

    def own(self, layer, ordinary, generator):
        self.latest[:] = [dict(ordinary)]
        return dict(ordinary)

    def weights(self, layer, shared, own, task):
        return dict(self.latest[0])


@dataclass(frozen=True)
class Rewarding(Factors):
    def penalty(self, layer, shared, own):
        return -own["inputs"].square().sum()


@dataclass(frozen=True)
class SquareRoot(Factors):
    def penalty(self, layer, shared, own):
        return (own["inputs"] * 0).square().sum().sqrt()


FAULTS: list[tuple[str, SharingRule, str]] = [
    ("shapes", Transposed(), "should get"),
    ("shapes", WithoutBias(), "should get"),
    ("shapes", NotFinite(), "not finite"),
    ("dtype", AlwaysSingle(), r"of torch\.float32, not torch\.float64"),
    ("counts", Miscounted(), "`counts` says"),
    ("gradients", DetachedCore(), "None for shared core"),
    ("gradients", UnusedParameter(), "None for own spare"),
    ("gradients", Remembering(), "depend on none of its parameters"),
    ("derivative", HalfDetached(), "by differences"),
    ("derivative", Remembering(), "depend on none of its parameters"),
    ("seed", GlobalDraw(), "global generator"),
    ("seed", Stateful(), "differently from the same seed"),
    ("deterministic", Noisy(), "different weights"),
    ("inputs kept", InPlace(), "changed by making its weights"),
    ("inputs kept", SameDictionary(), "changed by making its weights"),
    ("tasks apart", OneMemory(), "one piece of memory"),
    ("tasks apart", Remembering(), "changed by another's parameters"),
    ("penalty", Rewarding(), "no number of at least 0"),
    ("penalty", SquareRoot(), "gradient is not finite"),
]


@pytest.mark.parametrize(("check", "rule", "words"), FAULTS)
def test_fault_is_found(check, rule, words):
    with pytest.raises(RuleFault, match=words):
        CHECKS[check](rule, LAYER)
    with pytest.raises(RuleFault):
        check_rule(rule, [LAYER])


def test_every_check_has_a_fault():
    assert {check for check, _, _ in FAULTS} == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_rule_passes(check):
    CHECKS[check](Factors(), LAYER)


class Nameless(SharingRule):
    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return {}

    own = shared

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        return {}

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        return 0, 0


def test_hyper_parameters():
    with pytest.raises(RuleFault, match="not a frozen dataclass"):
        check_hyper_parameters(Nameless())
    with pytest.raises(RuleFault, match="has no name"):
        check_hyper_parameters(dataclass(frozen=True)(type("Unnamed", (Nameless,), {}))())
    check_hyper_parameters(Own())


@dataclass(frozen=True)
class ChecksOnly(Own):
    def check(self, layer):
        raise LayerError(f"cannot make {layer.name}.")


@dataclass(frozen=True)
class Curt(ChecksOnly):
    def check(self, layer):
        raise LayerError("no.")

    def shared(self, layer, ordinary, generator):
        raise LayerError("no.")


@dataclass(frozen=True)
class Fickle(ChecksOnly):
    def shared(self, layer, ordinary, generator):
        raise LayerError(f"{layer.name} is not for me.")


@pytest.mark.parametrize(
    ("rule", "words"),
    [(ChecksOnly(), "make parameters"), (Curt(), "not named"), (Fickle(), "different words")],
)
def test_refusals(rule, words):
    with pytest.raises(RuleFault, match=words):
        check_refusal(rule, LAYER)


def test_a_rule_that_makes_nothing():
    with pytest.raises(RuleFault, match="refuses every layer"):
        check_rule(ChecksOnly(), [LAYER])


def test_the_fault_names_the_rule_and_the_layer():
    with pytest.raises(RuleFault, match=r"Miscounted\(orthogonality=0\.1\): layer 1, a 3x3 convolution of 2 to 3, "):
        check_rule(Miscounted(), [LAYER])
