"""What a step of fine-tuning's relatives costs, as ratios measured interleaved in this process on one thread.

    lwf_over_fine_tuning_M    a step of learning without forgetting with M old tasks against fine-tuning's
    ewc_over_fine_tuning_20   the same of elastic weight consolidation with 20 old tasks
    l2_over_fine_tuning_20    the same of L2
    warm_up_over_joint        a step of the warm-up, on remembered features, against one where everything moves

The network alex-32, 10 classes a task, batch 32, channels last, SGD with momentum. Each number is the median over five
rounds of the ratio of two timings (an epoch of 10 steps each) taken directly after each other, in alternating order.

    python benchmarks/lwf_step.py [cpu|cuda]      two minutes on a CPU
"""

import argparse
from collections.abc import Mapping

import torch

from everlearn.methods.base import Memory
from everlearn.methods.catalogue import make_method
from everlearn.methods.fine_tuning import ALL, HEAD
from everlearn.networks.papers import make_backbone
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.training import fit
from everlearn.training.data import StreamData
from everlearn.training.settings import Training
from step import Epoch, ratio

BATCH, STEPS, CLASSES = 32, 10, 10


def data_of(device: torch.device) -> StreamData:
    """One task of made images, 32 x 32."""
    count = BATCH * STEPS
    random = torch.Generator().manual_seed(0)
    split = Split(torch.randn(count, 3, 32, 32, generator=random), torch.arange(count) % CLASSES)
    task = Task("made", tuple(str(c) for c in range(CLASSES)), split, split, split)
    return StreamData(TaskStream("made", 0, (task,)), device, last=True)


def everlearns(name: str, old: int, device: torch.device, stage: int = ALL) -> Epoch:
    """An epoch of everlearn's own loop on a new task after so many old ones."""
    training = Training(epochs=10**6, batch=BATCH, optimiser="sgd", momentum=0.9, rate=1e-9, schedule="constant")
    method = make_method(name, "alex-32", old + 1, {})
    network = method.network(make_backbone("alex-32", (3, 32, 32)), old + 1, 0).to(device)
    memory: Memory = {}
    one = data_of(device)
    data = _Everywhere(one)
    for task in range(old + 1):
        method.begin(network, memory, CLASSES)
        images = {task: one[0]["train"]}
        if task < old:
            if task == 0:  # one task's Fisher information is as good as another's for the time a step takes
                method.leave(network, memory, [task], images)
        else:
            method.enter(network, memory, [task], HEAD, images)
            if stage == ALL:
                method.enter(network, memory, [task], ALL, images)
    network.train().requires_grad_(False)
    state = fit.State(network, memory, stage=stage)
    plan = fit.Plan(method, data, [CLASSES] * (old + 1), training, 0)  # type: ignore[arg-type]
    objective, _ = fit._objective(plan, state, old)
    optimisers = fit._optimisers(plan, state, old, objective)

    def epoch() -> None:
        for _ in fit._epoch(plan, state, old, objective, optimisers, 1e-9):
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


class _Everywhere:
    """The same images for every task."""

    def __init__(self, one: StreamData) -> None:
        self.one = one

    def __getitem__(self, task: int) -> Mapping[str, object]:
        return self.one[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", nargs="?", default="cpu", choices=("cpu", "cuda"))
    device = torch.device(parser.parse_args().device)
    torch.set_num_threads(1)
    pairs = {
        "lwf_over_fine_tuning_1": (everlearns("lwf", 1, device), everlearns("fine-tuning", 1, device)),
        "lwf_over_fine_tuning_20": (everlearns("lwf", 20, device), everlearns("fine-tuning", 20, device)),
        "ewc_over_fine_tuning_20": (everlearns("ewc", 20, device), everlearns("fine-tuning", 20, device)),
        "l2_over_fine_tuning_20": (everlearns("l2", 20, device), everlearns("fine-tuning", 20, device)),
        "warm_up_over_joint": (everlearns("lwf", 1, device, HEAD), everlearns("lwf", 1, device)),
    }
    for name, (first, second) in pairs.items():
        print(f"{name:28} {ratio(first, second):.3f}")


if __name__ == "__main__":
    main()
