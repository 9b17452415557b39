"""One task's network as a file that needs no everlearn: ONNX, torch.export, or safetensors with a description.

The network of `onnx` and `torch` takes pixels in [0, 1], `[N, C, H, W]` float32 for any N, standardises them itself,
and gives logits. What is known of its classes goes along: as metadata of the ONNX model, as `everlearn.json` in the
archive of torch.export, as a JSON file beside the safetensors.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, StoreError, UnknownNameError
from everlearn.experiments.files import write_whole
from everlearn.networks.trained import pack_trained
from everlearn.storing.pictures import statistics_of
from everlearn.storing.records import Preprocessing, TaskRecord


class PlainNetwork(nn.Module):
    """A task's network from pixels in [0, 1] to logits."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, pre: Preprocessing) -> None:
        super().__init__()
        by = statistics_of(pre)
        self.register_buffer("mean", by.mean.view(1, -1, 1, 1))
        self.register_buffer("scale", by.scale.view(1, -1, 1, 1))
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((pixels - self.mean) / self.scale)


def export(network: nn.Module, task: TaskRecord, to: str, out: Path) -> list[Path]:
    """Write a task's network; return the files.

    Args:
        network: plain, from standardised images to logits, in evaluation mode.
        task: whose.
        to: `onnx`, `torch` (a `.pt2` file of torch.export) or `safetensors`.
        out: the file.

    Raises:
        UnknownNameError: another format.
        ConfigurationError: the format's library is missing, it cannot express the network, or the file's name is that
            of a description.
        StoreError: the file could not be written.
    """
    if to not in FORMATS:
        raise UnknownNameError("format to export to", to, FORMATS)
    if out.is_dir():
        raise StoreError(f"{out} is a folder; name the file to write.")
    plain = PlainNetwork(network, task.preprocessing).eval()
    files = FORMATS[to](plain, task, out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {out.parent} could not be made: {error.strerror}; name a file elsewhere."
        ) from error
    for path, content in files.items():
        write_whole(path, content)
    return list(files)


def description(task: TaskRecord) -> dict[str, Any]:
    """What must be known of a task besides its numbers."""
    pre = task.preprocessing
    return {
        "task": task.name,
        "classes": task.classes,
        "multi_label": task.multi_label,
        "input": {
            "shape": ["N", pre.channels, pre.height, pre.width],
            "pixels": "float32 in [0, 1], resized bilinearly with antialiasing, the aspect ratio not kept",
        },
        "standardise": {"mean": pre.mean, "scale": pre.scale},
        "output": "logits, one a class; " + ("a sigmoid" if task.multi_label else "a softmax") + " gives probabilities",
    }


def _example(task: TaskRecord) -> Tensor:
    pre = task.preprocessing
    return torch.rand(2, pre.channels, pre.height, pre.width, generator=torch.Generator().manual_seed(0))


def _onnx(plain: PlainNetwork, task: TaskRecord, out: Path) -> dict[Path, bytes]:
    try:
        import_module("onnxscript")
        onnx: Any = import_module("onnx")
    except ImportError:
        raise ConfigurationError("ONNX needs more: pip install everlearn[export].") from None
    with _expressed("ONNX"):
        program: Any = torch.onnx.export(
            plain, (_example(task),), input_names=["pixels"], output_names=["logits"], dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("N")},),
        )  # fmt: skip
        model = program.model_proto
    onnx.helper.set_model_props(model, {"everlearn": json.dumps(description(task))})
    return {out: model.SerializeToString()}


def _torch(plain: PlainNetwork, task: TaskRecord, out: Path) -> dict[Path, bytes]:
    import io

    file = io.BytesIO()
    with _expressed("torch.export"):
        shapes = ({0: torch.export.Dim("N")},)
        program = torch.export.export(plain, (_example(task),), dynamic_shapes=shapes)
        torch.export.save(program, file, extra_files={"everlearn.json": json.dumps(description(task))})
    return {out: file.getvalue()}


def _safetensors(plain: PlainNetwork, task: TaskRecord, out: Path) -> dict[Path, bytes]:
    if out.suffix.lower() == ".json":
        raise ConfigurationError(
            f"safetensors go into a file beside their description in JSON, so {out} is no name for it; take "
            f"{out.with_suffix('.safetensors')}."
        )
    # Of another ending everything is kept: birds.v1 and birds.v2 have a description each.
    beside = out.with_name(out.name.removesuffix(SUFFIXES["safetensors"]) + ".json")
    about = {
        **description(task),
        "input": {**description(task)["input"], "then": "(pixels - mean) / scale, which the numbers leave to you"},
        "network": str(plain.network).splitlines(),
    }
    content = pack_trained(plain.network, task.name, task.classes, task.multi_label)
    return {out: content, beside: (json.dumps(about, indent=1) + "\n").encode()}


FORMATS: dict[str, Callable[[PlainNetwork, TaskRecord, Path], dict[Path, bytes]]] = {
    "onnx": _onnx,
    "torch": _torch,
    "safetensors": _safetensors,
}
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}


@contextmanager
def _expressed(what: str) -> Iterator[None]:
    """One sentence for whatever an exporter says of a network that it cannot express."""
    talk = logging.getLogger("torch.onnx")  # it tells of torchvision, which is not wanted
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:  # exporters raise dozens of kinds
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"{what} cannot express this network ({reason}); export to safetensors.") from error
    finally:
        talk.setLevel(level)
