"""The conformance suite of sharing rules: what everlearn relies on, whatever the mathematics of a rule.

    from everlearn.testing import check_rule

    def test_my_rule():
        check_rule(MyRule())

Each check is a function of a rule and a layer that raises `RuleFault` with one sentence; `CHECKS` names them
all. A layer that the rule refuses is checked for the refusal alone. What the suite cannot know is the
equation: compare the weights with a slow loop over the formula as well.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from everlearn.errors import LayerError
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors

LAYERS: tuple[LayerShape, ...] = (
    LayerShape((3, 3), 3, 8, bias=True),
    LayerShape((3, 3), 6, 4, bias=False),
    LayerShape((5, 5), 4, 5, bias=True),
    LayerShape((3, 5), 2, 3, bias=True),
    LayerShape((7, 7), 1, 4, bias=True),
    LayerShape((1, 1), 3, 4, bias=True),
    LayerShape((2, 2), 3, 4, bias=True),
    LayerShape(None, 6, 5, bias=True),
    LayerShape(None, 4, 4, bias=False),
)
"""Small layers of all kinds; a rule with a list of sizes for each layer wants layers of its own."""


class RuleFault(AssertionError):
    """A sharing rule does not do what everlearn relies on."""


def check_rule(rule: SharingRule, layers: Sequence[LayerShape] = LAYERS) -> None:
    """Run every check on every layer.

    Args:
        rule: the rule under test.
        layers: the layers to make; those that the rule refuses must be refused with a `LayerError`.

    Raises:
        RuleFault: the first check that failed, with the rule's name and the layer's.
    """
    check_hyper_parameters(rule)
    made = [layer for layer in layers if makes(rule, layer)]
    _require(made, rule, None, "refuses every layer; give layers that it makes")
    for layer in layers:
        for check in CHECKS.values() if layer in made else (check_refusal,):
            check(rule, layer)


def makes(rule: SharingRule, layer: LayerShape) -> bool:
    """Whether the rule says that it can make the layer."""
    try:
        rule.check(layer)
    except LayerError:
        return False
    return True


# ---------------------------------------------------------------- the checks


def check_hyper_parameters(rule: SharingRule) -> None:
    """A rule is a frozen dataclass with a name: hyper-parameters that can be recorded, and no state."""
    frozen = getattr(getattr(rule, "__dataclass_params__", None), "frozen", False)
    _require(frozen, rule, None, "is not a frozen dataclass")
    _require(getattr(rule, "name", ""), rule, None, "has no name")
    again = dataclasses.replace(rule)  # pyright: ignore[reportArgumentType]
    _require(again == rule, rule, None, "does not equal a rule made of its hyper-parameters")


def check_refusal(rule: SharingRule, layer: LayerShape) -> None:
    """A refused layer gets no parameters either; the refusal names the layer and says the same each time."""
    messages: list[str] = []
    for attempt in (lambda: rule.check(layer), lambda: rule.check(layer), lambda: _start(rule, layer)):
        try:
            attempt()
        except LayerError as error:
            messages.append(str(error))
    _require(len(messages) == 3, rule, layer, "is refused by `check`, but `shared` and `own` make parameters")
    _require(len(set(messages)) == 1, rule, layer, f"is refused in different words: {messages}")
    _require(layer.name in messages[0], rule, layer, f"is not named in its refusal: {messages[0]}")


def check_shapes(rule: SharingRule, layer: LayerShape) -> None:
    """The weight and the bias have the layer's shapes, and there is nothing else."""
    made = rule.weights(layer, *_start(rule, layer), 0)
    wanted = {"weight": layer.weight_shape} | ({"bias": (layer.outputs,)} if layer.bias else {})
    came = {name: tuple(tensor.shape) for name, tensor in made.items()}
    _require(came == wanted, rule, layer, f"should get {wanted}, but got {came}")
    finite = all(bool(tensor.isfinite().all()) for tensor in made.values())
    _require(finite, rule, layer, "gets weights that are not finite")


def check_dtype(rule: SharingRule, layer: LayerShape) -> None:
    """Parameters and weights have the type of the ordinary weights."""
    for dtype in (torch.float32, torch.float64):
        shared, own = _start(rule, layer, dtype=dtype)
        for name, tensor in [*shared.items(), *own.items(), *rule.weights(layer, shared, own, 0).items()]:
            _require(tensor.dtype == dtype, rule, layer, f"has {name} of {tensor.dtype}, not {dtype}")


def check_counts(rule: SharingRule, layer: LayerShape) -> None:
    """`counts` equals the numbers that the parameters hold."""
    held = tuple(sum(tensor.numel() for tensor in tensors.values()) for tensors in _start(rule, layer))
    counted = rule.counts(layer)
    _require(held == counted, rule, layer, f"holds (shared, own) = {held}, but `counts` says {counted}")


def check_gradients(rule: SharingRule, layer: LayerShape) -> None:
    """Every shared parameter and every one of the task's own is reached by a gradient that is not zero."""
    shared, own = (_trainable(tensors) for tensors in _start(rule, layer))
    loss = _probe(rule.weights(layer, shared, own, 0))
    names = [*(f"shared {name}" for name in shared), *(f"own {name}" for name in own)]
    _require(loss.requires_grad, rule, layer, "gets weights that depend on none of its parameters")
    parameters = [*shared.values(), *own.values()]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        reached = gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any())
        _require(reached, rule, layer, f"gets the gradient {gradient} for {name}")


def check_derivative(rule: SharingRule, layer: LayerShape) -> None:
    """The gradient agrees with a difference quotient along one random direction, in double precision."""
    shared, own = (_trainable(tensors) for tensors in _start(rule, layer, dtype=torch.float64))
    parameters = [*shared.values(), *own.values()]
    random = _generator(7)
    directions = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in parameters]
    loss = _probe(rule.weights(layer, shared, own, 0))
    _require(loss.requires_grad, rule, layer, "gets weights that depend on none of its parameters")
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    step, values = 1e-5, list[float]()
    for sign in (1, -2):  # one step forward, then two back
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += sign * step * d
            values.append(float(_probe(rule.weights(layer, shared, own, 0))))
    quotient = (values[0] - values[1]) / (2 * step)
    close = abs(quotient - slope) <= 1e-5 * max(1.0, abs(slope))
    _require(close, rule, layer, f"has the slope {slope} by its gradient, but {quotient} by differences")


def check_seed(rule: SharingRule, layer: LayerShape) -> None:
    """A start depends on the generator and the ordinary weights alone, and draws from no other source."""
    state = torch.get_rng_state()
    first = _start(rule, layer)
    untouched = torch.equal(state, torch.get_rng_state())
    _require(untouched, rule, layer, "starts with a draw from torch's global generator")
    for tensors, again in zip(first, _start(rule, layer), strict=True):
        _require(_equal(tensors, again), rule, layer, "starts differently from the same seed")


def check_deterministic(rule: SharingRule, layer: LayerShape) -> None:
    """The same parameters give the same weights, bit for bit, and nothing is drawn to make them."""
    shared, own = _start(rule, layer)
    state = torch.get_rng_state()
    first, second = (rule.weights(layer, shared, own, 0) for _ in range(2))
    _require(_equal(first, second), rule, layer, "gets different weights from the same parameters")
    untouched = torch.equal(state, torch.get_rng_state())
    _require(untouched, rule, layer, "gets weights that draw from torch's global generator")


def check_inputs_kept(rule: SharingRule, layer: LayerShape) -> None:
    """Neither making weights nor the penalty changes the parameters, or the dictionaries that hold them."""
    shared, own = _start(rule, layer)
    before = [_copy(shared), _copy(own)]
    made = rule.weights(layer, shared, own, 0)
    made["added"] = torch.zeros(())  # the caller may fill the dictionary that it got
    rule.penalty(layer, shared, own)
    kept = all(_equal(tensors, copy) for tensors, copy in zip((shared, own), before, strict=True))
    _require(kept, rule, layer, "has its parameters changed by making its weights")


def check_tasks_apart(rule: SharingRule, layer: LayerShape) -> None:
    """A task's weights depend on the shared parameters and its own, not on what another task holds."""
    shared, first = _start(rule, layer)
    second = rule.own(layer, _ordinary(layer, 5, torch.float32), _generator(6))
    for a, b in itertools.product(first.values(), second.values()):
        apart = a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()
        _require(apart, rule, layer, "has two tasks' own parameters in one piece of memory")
    before = _copy(rule.weights(layer, shared, first, 0))
    rule.weights(layer, shared, second, 0)
    for tensor in second.values():
        tensor.fill_(torch.nan)
    after = rule.weights(layer, shared, first, 0)
    _require(_equal(before, after), rule, layer, "has one task's weights changed by another's parameters")


def check_penalty(rule: SharingRule, layer: LayerShape) -> None:
    """The penalty is None, or a finite number that is not negative and has finite gradients."""
    shared, own = (_trainable(tensors) for tensors in _start(rule, layer))
    penalty = rule.penalty(layer, shared, own)
    if penalty is None:
        return
    fine = penalty.ndim == 0 and bool(penalty.isfinite()) and penalty.item() >= 0
    _require(fine, rule, layer, f"has a penalty that is no number of at least 0: {penalty.detach()}")
    parameters = [*shared.values(), *own.values()]
    gradients = torch.autograd.grad(penalty, parameters, allow_unused=True)
    finite = all(gradient is None or bool(gradient.isfinite().all()) for gradient in gradients)
    _require(finite, rule, layer, "has a penalty whose gradient is not finite")


CHECKS: dict[str, Callable[[SharingRule, LayerShape], None]] = {
    "shapes": check_shapes,
    "dtype": check_dtype,
    "counts": check_counts,
    "seed": check_seed,
    "deterministic": check_deterministic,
    "inputs kept": check_inputs_kept,
    "tasks apart": check_tasks_apart,
    "gradients": check_gradients,
    "derivative": check_derivative,
    "penalty": check_penalty,
}
"""The checks of a layer that the rule makes, by name."""


# ---------------------------------------------------------------- helpers


def _require(condition: object, rule: SharingRule, layer: LayerShape | None, fault: str) -> None:
    if not condition:
        subject = f"{rule}: {layer.name}, " if layer else f"{rule} "
        raise RuleFault(f"{subject}{fault}.")


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _ordinary(layer: LayerShape, seed: int, dtype: torch.dtype) -> Tensors:
    random = _generator(seed)
    shapes = {"weight": layer.weight_shape} | ({"bias": (layer.outputs,)} if layer.bias else {})
    return {name: torch.randn(shape, generator=random, dtype=dtype) for name, shape in shapes.items()}


def _start(rule: SharingRule, layer: LayerShape, dtype: torch.dtype = torch.float32) -> tuple[Tensors, Tensors]:
    """Shared parameters, and those of one task, from fixed seeds."""
    shared = rule.shared(layer, _ordinary(layer, 1, dtype), _generator(2))
    return shared, rule.own(layer, _ordinary(layer, 3, dtype), _generator(4))


def _probe(weights: Tensors) -> Tensor:
    """A number that depends on every entry of the weights, each in its own measure."""
    random = _generator(8)
    terms: list[Tensor] = []
    for tensor in weights.values():
        factors = torch.randn(tensor.shape, generator=random, dtype=torch.float64).to(tensor.dtype)
        terms.append((tensor * factors).sum())
    return torch.stack(terms).sum()


def _trainable(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}


def _copy(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _equal(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
