"""What a step of DEN's selective retraining costs, as ratios measured interleaved in this process on one thread.

    NET_a_quarter     a retraining step (Eq. 4) with a quarter of every layer's units selected, against one with all
    NET_a_half        the same with a half
    NET_all_plain     a retraining step with all units selected, against a plain step of the whole network (fine-tuning)

NET is `den-mnist`, the paper's 312-128 at batch 256 on 28 x 28 images, and `den-cifar`, its AlexNet at batch 64 on
32 x 32 images in colour; Adam, 10 classes, channels last, every input selected. Each number is the median over five
rounds of the ratio of two timings (an epoch of 10 or 4 steps each) taken directly after each other, in alternating
order.

    python benchmarks/den_step.py [cpu|cuda]      a minute on a CPU
"""

import argparse

import torch

from everlearn.methods.base import Method
from everlearn.methods.catalogue import make_method
from everlearn.methods.den import RETRAIN, growing
from everlearn.methods.fine_tuning import ALL
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.units import expanded
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.training import fit
from everlearn.training.data import StreamData
from everlearn.training.settings import Training
from step import Epoch, ratio

CLASSES, RATE = 10, 1e-9
NETS = {"den-mnist": ((1, 28, 28), 256, 10), "den-cifar": ((3, 32, 32), 64, 4)}
"""Image shape, batch, steps an epoch."""


def epoch_of(method: Method, network: LifelongNetwork, stage: int, backbone: str, device: torch.device) -> Epoch:
    """An epoch of everlearn's own loop on the last task, whose stage has been entered."""
    shape, batch, steps = NETS[backbone]
    count, task = batch * steps, len(network.tasks) - 1
    random = torch.Generator().manual_seed(0)
    split = Split(torch.randn(count, *shape, generator=random), torch.arange(count) % CLASSES)
    names = tuple(str(c) for c in range(CLASSES))
    stream = TaskStream("made", 0, tuple(Task(f"{i}", names, split, split, split) for i in range(task + 1)))
    training = Training(epochs=10**6, batch=batch, optimiser="adam", rate=RATE, schedule="constant")
    plan = fit.Plan(method, StreamData(stream, device, last=True), [CLASSES] * (task + 1), training, 0)
    memory = {"bound": torch.zeros(()), "batches": torch.zeros((), dtype=torch.int64)}
    state = fit.State(network, memory, stage=stage)
    network.train().requires_grad_(False)
    objective = method.objective(network, memory, task, stage, "mean")
    optimisers = fit._optimisers(plan, state, task, objective)

    def epoch() -> None:
        for _ in fit._epoch(plan, state, task, objective, optimisers, RATE):
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def retraining(backbone: str, share: float, device: torch.device) -> Epoch:
    """A second task whose part is so large a share of every layer."""
    method = make_method("den", backbone, 2, {})
    network = growing(method.network(make_backbone(backbone, NETS[backbone][0]), 2, 0).to(device))
    for _ in range(2):
        method.begin(network, {}, CLASSES)
    sizes = (network.sites[0][0].layer.inputs, *network.sizes())
    units = tuple(tuple(range(round(size * (share if place else 1)))) for place, size in enumerate(sizes))
    network.cut_out(1, units)
    head = network.head_layer(1)
    columns = expanded(units[-1], network.each[-1]).to(device)
    network.set_head(1, head.weight.detach()[:, columns], head.bias)
    return epoch_of(method, network, RETRAIN, backbone, device)


def plain(backbone: str, device: torch.device) -> Epoch:
    """The whole network, by fine-tuning."""
    method = make_method("fine-tuning", backbone, 2, {})
    network = method.network(make_backbone(backbone, NETS[backbone][0]), 2, 0).to(device)
    for _ in range(2):
        method.begin(network, {}, CLASSES)
    return epoch_of(method, network, ALL, backbone, device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", nargs="?", default="cpu", choices=("cpu", "cuda"))
    device = torch.device(parser.parse_args().device)
    torch.set_num_threads(1)
    for backbone in NETS:
        whole = retraining(backbone, 1.0, device)
        print(f"{backbone}_a_quarter     {ratio(retraining(backbone, 0.25, device), whole):.3f}")
        print(f"{backbone}_a_half        {ratio(retraining(backbone, 0.5, device), whole):.3f}")
        print(f"{backbone}_all_plain     {ratio(whole, plain(backbone, device)):.3f}", flush=True)


if __name__ == "__main__":
    main()
