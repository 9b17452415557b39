"""What a training step costs, as ratios measured interleaved in this process on one CPU thread.

    stl_over_plain_loop          everlearn's STL step against a hand-written minimal PyTorch loop on the same network
    hps_over_plain_loop          everlearn's HPS step against the same
    df_cnn_over_stl              a DF-CNN step against an STL step (Lee et al. 2019 report 1.33)
    hps_task_50_over_task_1      an HPS step when 50 tasks are known against when one is
    df_cnn_task_50_over_task_1   the same for DF-CNN

CIFAR network, 32 x 32 images, batch 10, TensorFlow 1's RMSProp, channels last for both sides. Each line is the median
over rounds of the ratio of two timings taken directly after each other, in alternating order.

    python benchmarks/step.py
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.training import fit
from everlearn.training.data import StreamData
from everlearn.training.optimisers import TF1RMSProp
from everlearn.training.settings import Training

IMAGES, BATCH, ROUNDS = 170, 10, 12
Epoch = Callable[[], None]


def stream() -> TaskStream:
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        return Split(torch.randn(count, 3, 32, 32, generator=random), torch.arange(count) % 10)

    return TaskStream("made", 0, (Task("task", tuple("0123456789"), split(IMAGES), split(10), split(10)),))


def plain_loop() -> Epoch:
    """What a person would write without a library: one module, one loop."""
    network = make_method("stl", "cifar", 1, {}).network(make_backbone("cifar", (3, 32, 32)), 1, 0)
    network.add_task(10, (True,) * 4)
    plain = network.export(0).train()
    parameters = list(plain.parameters())
    optimiser = TF1RMSProp(parameters, 1e-4)
    split = stream().tasks[0].train
    images = split.images.to(memory_format=torch.channels_last)

    def epoch() -> None:
        order = torch.randperm(IMAGES)
        for start in range(0, IMAGES, BATCH):
            index = order[start : start + BATCH]
            loss = F.cross_entropy(plain(images[index]), split.labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return epoch


def everlearns(name: str, tasks: int = 1) -> Epoch:
    """One epoch of everlearn's own loop, when so many tasks are known; the last of them is trained."""
    training = Training(epochs=10**6, batch=BATCH)
    method = make_method(name, "cifar", tasks, {})
    network = method.network(make_backbone("cifar", (3, 32, 32)), tasks, 0)
    for _ in range(tasks):
        method.begin(network, {}, 10)
    network.train().requires_grad_(False)
    state = fit.State(network, stage=0)
    data = StreamData(stream(), torch.device("cpu"), last=True)
    data.tasks = data.tasks * tasks
    plan = fit.Plan(method, data, [10] * tasks, training, 0)
    objective = method.objective(network, {}, tasks - 1, 0, "mean")
    optimisers = fit._optimisers(plan, state, tasks - 1, objective)

    def epoch() -> None:
        for _ in fit._epoch(plan, state, tasks - 1, objective, optimisers, 1e-9):
            pass

    return epoch


def ratio(first: Epoch, second: Epoch) -> float:
    """The median over rounds of first's time by second's; each round takes them in the other order."""

    def seconds(epoch: Epoch) -> float:
        begun = perf_counter()
        epoch()
        return perf_counter() - begun

    for warm in (first, second):
        warm()
    ratios = []
    for i in range(ROUNDS):
        pair = (first, second) if i % 2 == 0 else (second, first)
        times = {epoch: seconds(epoch) for epoch in pair}
        ratios.append(times[first] / times[second])
    return median(ratios)


def main() -> None:
    torch.set_num_threads(1)
    stl, hps, df_cnn = everlearns("stl"), everlearns("hps"), everlearns("df-cnn")
    plain = plain_loop()
    print(f"stl_over_plain_loop {ratio(stl, plain):.3f}", flush=True)
    print(f"hps_over_plain_loop {ratio(hps, plain):.3f}", flush=True)
    print(f"df_cnn_over_stl {ratio(df_cnn, stl):.3f}", flush=True)
    print(f"hps_task_50_over_task_1 {ratio(everlearns('hps', 50), hps):.3f}", flush=True)
    print(f"df_cnn_task_50_over_task_1 {ratio(everlearns('df-cnn', 50), df_cnn):.3f}", flush=True)


if __name__ == "__main__":
    main()
