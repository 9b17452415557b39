"""Every random choice is a pure function of a seed and of what it is for.

No generator is carried along, so nothing has to be stored to resume: the order of epoch 17 of task 3 is drawn from
`(seed, "order", 3, 17)` whether or not the run was stopped before it. Naming each draw also keeps methods paired:
two methods of one trial see the same batches and start from the same numbers wherever they have the same parameters.
"""

import hashlib

import torch

Word = str | int


def derive(seed: int, *words: Word) -> int:
    """A seed of 63 bits for one named purpose; the same on every machine."""
    text = "\x1f".join([str(seed), *(f"{type(word).__name__}:{word}" for word in words)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *words: Word) -> torch.Generator:
    """A CPU generator for one named purpose; draws on the CPU are the same whatever device the network is on."""
    return torch.Generator().manual_seed(derive(seed, *words))


def reseed(device: torch.device, seed: int) -> None:
    """Set the generator that modules of this device draw from (dropout); about a microsecond."""
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.random.default_generator.manual_seed(seed)
