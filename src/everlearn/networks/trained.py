"""Networks that somebody trained: as a module with its numbers, as a file of them, as a name of `timm`.

What comes out is a `Backbone` whose blocks hold those numbers, and the tasks that it knows, each a head and the names
of its classes. Nothing that is read is executed.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, LayerError, StoreError
from everlearn.networks.backbone import Backbone, TrainedTask

_TORCH = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class TrainedFile:
    """What a file of a trained network holds.

    Attributes:
        tensors: by name.
        task: the task's name, if the file says it.
        classes: the names of its classes, if the file says them.
        multi_label: whether an image may be of several.
    """

    tensors: Mapping[str, Tensor]
    task: str | None = None
    classes: tuple[str, ...] = ()
    multi_label: bool = False


def pack_trained(network: nn.Module, task: str, classes: Sequence[str], multi_label: bool) -> bytes:
    """An exported network as the content of a safetensors file that knows its task."""
    about = json.dumps({"task": task, "classes": list(classes), "multi_label": multi_label})
    return save({n: t.detach().cpu().contiguous() for n, t in network.state_dict().items()}, {"everlearn": about})


def read_trained(path: Path) -> TrainedFile:
    """Read a `.safetensors` file, or a PyTorch file of a state dict (`.pt`, `.pth`, `.bin`, `.ckpt`).

    Raises:
        StoreError: there is no such file, it cannot be read, or it holds something else.
    """
    if not path.is_file():
        raise StoreError(f"there is no file {path}; name a .safetensors file or a state dict that torch.save wrote.")
    if path.suffix in _TORCH:
        return TrainedFile(_state_dict(path))
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("everlearn", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return TrainedFile(
            tensors, about.get("task"), tuple(map(str, about.get("classes", ()))), bool(about.get("multi_label", False))
        )
    except (OSError, SafetensorError, ValueError, AttributeError, TypeError) as error:
        raise StoreError(f"{path} cannot be read as safetensors ({error}).") from None


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file that is none of its own
        raise StoreError(
            f"{path} cannot be read as a state dict: it holds a whole module, or is no checkpoint of PyTorch. Save "
            "torch.save(model.state_dict(), path), or bring the module in a file of yours (Backbone.from_module)."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {name: t for name, t in content.items() if isinstance(t, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise StoreError(f"{path} holds no state dict: a dictionary of tensors by name was wanted.")
    return {str(name).removeprefix("module."): tensor for name, tensor in tensors.items()}


def with_weights(backbone: Backbone, file: TrainedFile, where: str, task: str, classes: Sequence[str] = ()) -> Backbone:
    """A backbone with the numbers of a file: `block1.*`, `block2.*`, ... and `head.*`, as `export` names them.

    Args:
        backbone: whose structure the file's network has.
        file: what was read.
        where: how an error names the file.
        task: the known task's name, if the file does not say it.
        classes: their names, if the file does not say them; else they are "0", "1", ...

    Raises:
        StoreError: names or shapes are not those of the backbone.
    """
    blocks = [copy.deepcopy(block) for block in backbone.blocks]
    count = _outputs(backbone, file.tensors, where)
    named = tuple(file.classes or classes) or tuple(str(place) for place in range(count))
    if len(named) != count:
        raise StoreError(f"the head of {where} has {count} outputs, but {len(named)} names of classes came.")
    with torch.random.fork_rng(devices=[]):
        head = backbone.head(count)
    modules = {f"block{place}": block for place, block in enumerate(blocks, start=1)} | {"head": head}
    wanted = {f"{prefix}.{name}" for prefix, module in modules.items() for name in module.state_dict()}
    if wanted != set(file.tensors):
        missing, beyond = sorted(wanted - set(file.tensors)), sorted(set(file.tensors) - wanted)
        said = [f"lacks {missing[0]!r}"] if missing else []
        said += [f"has {beyond[0]!r}, which the backbone has not"] if beyond else []
        raise StoreError(f"{where} is no network of the backbone {backbone.name!r}: it {' and '.join(said)}.")
    for prefix, module in modules.items():
        mine = {n.removeprefix(f"{prefix}."): t for n, t in file.tensors.items() if n.startswith(f"{prefix}.")}
        try:
            module.load_state_dict(mine)
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n")[-1].split())
            raise StoreError(f"{where} is no network of the backbone {backbone.name!r}: {reason}") from None
    known = TrainedTask(file.task or task, named, head, file.multi_label)
    return replace(backbone, blocks=tuple(blocks), start="given", trained=(known,))


def _outputs(backbone: Backbone, tensors: Mapping[str, Tensor], where: str) -> int:
    """How many classes a file's network has: what the last tensor of a head has, in the order of the head's layers."""
    if not any(name.startswith("head.") for name in tensors):
        names = ", ".join(sorted(tensors)[:3])
        raise StoreError(
            f"{where} has no tensor named head.*; the names block1.*, block2.*, ... and head.* are wanted, but it has "
            f"{names}, ... For a module of your own write a function (docs/how-to/trained-network.md)."
        )
    with torch.random.fork_rng(devices=[]):
        last = [f"head.{name}" for name, tensor in backbone.head(2).state_dict().items() if tensor.ndim][-1]
    if last not in tensors or not tensors[last].ndim:
        raise StoreError(f"{where} is no network of the backbone {backbone.name!r}: it lacks {last!r}.")
    return int(tensors[last].shape[0])


def from_module(
    module: nn.Module,
    head: str,
    task: str,
    classes: Sequence[str],
    example: Tensor,
    blocks: Sequence[str] = (),
    multi_label: bool = False,
    name: str = "trained",
) -> Backbone:
    """A backbone from any trained network whose last layer is linear.

    Args:
        module: the network, with its numbers; it is copied.
        head: the path of its last layer, such as `fc` or `classifier.6`.
        task: what the network knows.
        classes: the names of its outputs.
        example: images to check the cut with, `[n, C, H, W]`.
        blocks: its children in the order in which they are run, several joined by "+" into one block ("conv1+bn1");
            empty: the whole trunk is one block, which tasks share or not as a whole.
        multi_label: whether an image may be of several classes.
        name: how it is recorded.

    Raises:
        LayerError: the head is no linear layer, a child is not there, or the blocks one after the other give something
            else than the network.
    """
    whole = copy.deepcopy(module).eval()
    try:
        last = whole.get_submodule(head)
    except AttributeError:
        raise LayerError(f"the network has no layer {head!r}; its parts are {_children(whole)}.") from None
    if not isinstance(last, nn.Linear) or not head:
        raise LayerError(
            f"the head {head!r} needs to be a linear layer of the network, but is a {type(last).__name__}."
        )
    if len(classes) != last.out_features:
        raise ConfigurationError(f"the head {head!r} has {last.out_features} outputs, but {len(classes)} names came.")
    try:
        with torch.no_grad():
            wanted = whole(example)
    except Exception as error:  # whatever somebody's network raises
        shape = tuple(example.shape[1:])
        raise LayerError(f"the network does not take images of shape {shape} ({_first_line(error)}).") from error
    parent, _, leaf = head.rpartition(".")
    setattr(whole.get_submodule(parent), leaf, nn.Identity())
    cut = tuple(_block(whole, path) for path in blocks) if blocks else (whole,)
    if not _same(cut, last, example, wanted):
        raise LayerError(
            "the blocks one after the other give something else than the network; name all its children in the order "
            f"in which they are run ({_children(whole)}), or none for a single block."
        )
    known = TrainedTask(task, tuple(classes), nn.Sequential(nn.Flatten(), last), multi_label)
    features = last.in_features

    def new_head(count: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(features, count))

    return Backbone(name, tuple(block.train() for block in cut), new_head, "given", (known,))


def _same(cut: Sequence[nn.Module], last: nn.Module, example: Tensor, wanted: Tensor) -> bool:
    """Whether blocks and head, one after the other, give what the network gave."""
    try:
        with torch.no_grad():
            hidden = example
            for block in cut:
                hidden = block(hidden)
            found = last(hidden.flatten(1))
        return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    except Exception:  # shapes that do not fit, and whatever else a network says to another's output
        return False


def _block(whole: nn.Module, path: str) -> nn.Module:
    parts = path.split("+")
    try:
        found = [whole.get_submodule(part) for part in parts]
    except AttributeError:
        raise LayerError(f"the network has no part {path!r}; its parts are {_children(whole)}.") from None
    return found[0] if len(found) == 1 else nn.Sequential(*found)


def _children(module: nn.Module) -> str:
    return ", ".join(name for name, _ in module.named_children()) or "none"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
