"""Backbones of the library `timm`, with the weights that it has for them: `timm:resnet18.a1_in1k`.

Needs `pip install everlearn[timm]`, which brings torchvision; weights come from the Hugging Face hub.
"""

from typing import Any

import torch
from torch import nn

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.networks.backbone import Backbone
from everlearn.networks.trained import from_module

PREFIX = "timm:"


def timm_backbone(name: str, image_shape: tuple[int, int, int]) -> Backbone:
    """A network of timm as a trunk of one block, and what it was trained on as a task that it knows.

    Args:
        name: as timm has it, with the weights' tag: `resnet18.a1_in1k`; without `timm:`. A network of the 1,000
            classes of ImageNet knows a task called `imagenet`, any other one that is called as its tag.
        image_shape: channels, height, width of the images.

    Raises:
        ConfigurationError: timm is not installed, or has no weights for the network.
        UnknownNameError: timm has no such network.
    """
    timm = _timm()
    if not timm.is_model(name.partition(".")[0]):
        raise UnknownNameError("timm model", name, timm.list_models())
    try:
        model: Any = timm.create_model(name, pretrained=True, in_chans=image_shape[0])
    except (RuntimeError, OSError) as error:
        raise ConfigurationError(f"timm has no weights for {name!r}, or cannot fetch them: {error}.") from error
    last = model.get_classifier()
    path = next((path for path, module in model.named_modules() if module is last), "")
    if not isinstance(last, nn.Linear):
        raise ConfigurationError(
            f"the classifier of {name!r} needs to be a linear layer, but is a {type(last).__name__}; take another."
        )
    classes = [str(label) for label in _labels(timm, model, last.out_features)]
    tag = str(getattr(model, "pretrained_cfg", {}).get("tag") or "pretrained")
    task = "imagenet" if last.out_features == 1000 and "in1k" in tag else tag
    with torch.random.fork_rng(devices=[]):
        example = torch.randn(2, *image_shape)
    return from_module(model, path, task, classes, example, name=PREFIX + name)


def _timm() -> Any:
    try:
        import timm  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigurationError(
            f"timm networks need timm, which is not here ({error}); pip install everlearn[timm]."
        ) from error
    return timm


def _labels(timm: Any, model: Any, count: int) -> list[str]:
    """The names of the classes, where timm knows them; else numbers."""
    try:
        infer = timm.data.infer_imagenet_subset(model)
        info = timm.data.ImageNetInfo(infer) if infer else None
    except (AttributeError, ValueError):
        info = None
    names = [info.index_to_description(place) for place in range(count)] if info else []
    unique = len(set(names)) == count
    return names if unique else [f"{place}: {names[place]}" if names else str(place) for place in range(count)]
