"""Random changes to training images, so that no two epochs show the same ones.

LwF (Li and Hoiem 2016) jitters "by taking random fixed-size crops of the resized images and adding variance to the RGB
values, as with AlexNet". Here, by words joined with "+", in this order or another:

    crop     the image padded by an eighth of its sides, and of that a part of the image's size
    flip     left and right exchanged, of half of the images
    colour   brightness, contrast and saturation, a fifth up or down each, and red, green and blue, a twentieth of their
             range; of grey images brightness and contrast

Details that change the numbers:
  * Images arrive standardised. What crop pads with is 0: of standardised images their mean colour.
  * Colours are changed between 0 and 1, and the way there and back is an affine map a channel: from the least to the
    greatest number that the training split has in that channel. What the change brings beyond is cut off.
  * AlexNet adds multiples of the principal components of all RGB values, which is about as much; the hue is left as it
    is, since turning it takes longer than training a small network.

Every random number comes from torch's global generator, which the loop reseeds before each step.
"""

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.seeds import reseed
from everlearn.training.data import Streamed, TrainingData

Augmentation = Callable[[Tensor], Tensor]
"""Images `[b, C, H, W]` to as many of the same shape."""

WORDS = ("crop", "flip", "colour")
SAMPLE = 2000
"""Images that are decoded for the bounds of colours, where a split does not lie in memory."""

_JITTER, _SHIFT = 0.2, 0.05
_BATCH = 500


def check_augmentation(text: str) -> tuple[str, ...]:
    """The words of "crop+flip+colour"; none of "".

    Raises:
        UnknownNameError: a word that is none.
    """
    words = tuple(text.split("+")) if text else ()
    for word in words:
        if word not in WORDS:
            raise UnknownNameError("augmentation", word, WORDS)
    return words


def augmentation(text: str, train: TrainingData, channels: int | None = None) -> Augmentation | None:
    """What is done to a batch of a task's training images, on whatever device they are; None for "".

    Args:
        text: such as "crop+flip+colour".
        train: the task's training split; tells the bounds of its colours.
        channels: of the images; None: as the training images have.

    Raises:
        UnknownNameError: a word that is none.
        ConfigurationError: kornia is not installed; colours are to be changed of neither grey nor RGB images.
    """
    words = check_augmentation(text)
    if not words:
        return None
    kornia = _kornia()
    first = train.take(slice(0, 1))
    found, height, width = first.shape[1:]
    made = [_step(kornia, word, train, channels or found, (height, width)) for word in words]
    return _sequence(made)


def _kornia() -> ModuleType:
    """Kornia takes seconds to import, so only who asks for it waits."""
    try:
        import kornia.augmentation
    except ImportError as error:
        raise ConfigurationError(
            "augmentation needs kornia, which is not installed; install it with: pip install everlearn[augment]"
        ) from error
    return kornia.augmentation


def _step(kornia: ModuleType, word: str, train: TrainingData, channels: int, size: tuple[int, int]) -> Augmentation:
    if word == "crop":
        up, left = (max(1, side // 8) for side in size)
        return kornia.RandomCrop(size, padding=(left, up, left, up))
    if word == "flip":
        return kornia.RandomHorizontalFlip(p=0.5)
    if channels not in (1, 3):
        raise ConfigurationError(
            f"colours of images of 1 or 3 channels can be changed, but these have {channels}; leave out colour."
        )
    if channels == 1:
        return _between_bounds([kornia.ColorJiggle(_JITTER, _JITTER, p=1.0)], *_bounds(train))
    jitter = kornia.ColorJiggle(_JITTER, _JITTER, _JITTER, p=1.0)
    return _between_bounds([jitter, kornia.RandomRGBShift(_SHIFT, _SHIFT, _SHIFT, p=1.0)], *_bounds(train))


def _bounds(train: TrainingData) -> tuple[Float[Tensor, "c 1 1"], Float[Tensor, "c 1 1"]]:
    """The least and the greatest number of each channel."""
    count = len(train.labels)
    # Evenly over the split, without a random number: images often lie class after class.
    sample = min(count, SAMPLE) if isinstance(train, Streamed) else count
    index = torch.arange(sample, device=train.labels.device) * count // sample
    low, high = [], []
    for part in index.split(_BATCH):
        images = train.take(part)
        low.append(images.amin((0, 2, 3)))
        high.append(images.amax((0, 2, 3)))
    return torch.stack(low).amin(0).view(-1, 1, 1), torch.stack(high).amax(0).view(-1, 1, 1)


def _between_bounds(steps: Sequence[Augmentation], low: Tensor, high: Tensor) -> Augmentation:
    # A channel of one value has no width; it is mapped to 0 and back.
    width = torch.where(high > low, high - low, 1.0)

    def changed(images: Tensor) -> Tensor:
        levels = ((images - low) / width).clamp(0, 1)
        for step in steps:
            levels = step(levels).clamp(0, 1)
        return levels * width + low

    return changed


def _sequence(steps: Sequence[Augmentation]) -> Augmentation:
    @torch.no_grad()
    def changed(images: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[], enabled=images.is_cuda):
            if images.is_cuda:
                # Kornia draws on the CPU, but the loop seeds the device's generator alone.
                reseed(torch.device("cpu"), int(torch.randint(2**62, (), device=images.device)))
            last = images.is_contiguous(memory_format=torch.channels_last)
            for step in steps:
                images = step(images)
        return images.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    return changed
