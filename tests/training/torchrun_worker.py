"""What each process of test_parallel's `torchrun` does: `torchrun torchrun_worker.py FOLDER`."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed, nn

from everlearn.methods.catalogue import make_method
from everlearn.networks.backbone import Backbone
from everlearn.networks.papers import make_backbone
from everlearn.testing.methods import made_stream
from everlearn.training.data import StreamData
from everlearn.training.fit import Plan, State, learn
from everlearn.training.settings import Training

METHODS = ("stl", "hps", "tf", "df-cnn", "lwf", "ewc", "l2", "prognn", "lasem-hps", "den", "joint", "fine-tuning")


def still() -> Backbone:
    """The digits' backbone without dropout, whose draws depend on how many processes there are."""
    backbone = make_backbone("digits", (1, 8, 8))

    def quiet(module: nn.Module) -> nn.Module:
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        return module

    return replace(
        backbone, blocks=tuple(map(quiet, backbone.blocks)), head=lambda classes: quiet(backbone.head(classes))
    )


def trained(name: str, batch: int, reduction: str) -> tuple[State, list[float]]:
    """A method that has learned two tasks; and the accuracies and losses on the way."""
    stream = made_stream(tasks=2)
    # Beside a sum DEN, which decides by thresholds, makes of rounding errors something else at a larger rate.
    rate = 1e-3 if reduction == "mean" else 1e-4
    training = Training(epochs=2, batch=batch, rate=rate, evaluate_every=1, reduction=reduction)  # type: ignore[arg-type]
    method = make_method(name, "digits", 2, {"warm_up": 0.5} if name == "fine-tuning" else {})
    state = State(method.network(still(), 2, 7))
    data = StreamData(stream, torch.device("cpu"), last=True)
    told = [event for event in learn(Plan(method, data, [2, 2], training, 7), state) if hasattr(event, "accuracy")]
    return state, [number for event in told for number in (event.accuracy, event.loss)]


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    for name in METHODS:
        for batch, reduction in ((5, "mean"), (4, "sum")):
            state, numbers = trained(name, batch, reduction)
            tensors = {key: tensor.contiguous() for key, tensor in state.network.state_dict().items()}
            tensors["numbers"] = torch.tensor(numbers)
            save_file(tensors, folder / f"{name}.{reduction}.{distributed.get_rank()}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
