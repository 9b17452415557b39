"""What training takes on a GPU: steps taken kernel by kernel and recorded, of which kernels, and evaluations.

For each method, of the 4-convolution net for CIFAR-100 at batch 10, at its third task:

    plain, recorded, bfloat16    milliseconds a step: as it is, recorded as a CUDA graph, that with layers in bfloat16
    kernels, busy                of a recorded step: how many, and their milliseconds

    python benchmarks/gpu.py [METHOD ...]
    python benchmarks/gpu.py --at-once COUNT METHOD     recorded steps a second of so many processes together
"""

import sys
from statistics import median
from time import perf_counter

import torch
from torch.profiler import ProfilerActivity, profile

from everlearn.benching.measures import together
from everlearn.benching.steps import Epoch, everlearns, made_stream
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.training.data import StreamData, lies_last
from everlearn.training.evaluation import evaluate
from everlearn.training.settings import Training

METHODS = ("stl", "hps", "df-cnn", "tf", "prognn", "lasem-hps", "lasem-df-cnn")
EPOCHS = 10
"""Between two evaluations."""
STEPS = 17 * EPOCHS
"""Of the ten epochs."""


def milliseconds(epoch: Epoch, rounds: int = 6) -> float:
    """Of one step: the median over ten epochs each."""
    for _ in range(2):
        epoch()
    taken: list[float] = []
    for _ in range(rounds):
        begun = perf_counter()
        epoch()
        taken.append(perf_counter() - begun)
    return 1000 * median(taken) / STEPS


def kernels(epoch: Epoch) -> tuple[float, float]:
    """Of one step: how many kernels, and milliseconds in them."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        epoch()
    rows = [row for row in found.key_averages() if row.self_device_time_total > 0]
    for row in sorted(rows, key=lambda one: -one.self_device_time_total)[:12]:
        print(f"    {row.self_device_time_total / STEPS:7.1f} us  {row.count / STEPS:5.1f}  {row.key[:90]}")
    count = sum(row.count for row in rows)
    return count / STEPS, sum(row.self_device_time_total for row in rows) / STEPS / 1000


def evaluations() -> None:
    """How long a thousand test images take."""
    device = torch.device("cuda")
    network = make_method("hps", "cifar", 1, {}).network(make_backbone("cifar", (3, 32, 32)), 1, 0).to(device)
    network.add_task(10, (True,) * 4)
    data = StreamData(made_stream(1000), device, lies_last(Training(), device))[0]["test"]
    taken: list[float] = []
    for _ in range(20):
        begun = perf_counter()
        evaluate(network, 0, data)
        taken.append(perf_counter() - begun)
    print(f"evaluation of 1,000 images: {1000 * median(taken):.2f} ms")


def work(name: str, seconds: float = 4.0) -> None:
    """Recorded steps a second, once a line comes."""
    epoch = everlearns(name, 3, Training(batch=10), "cuda", epochs=EPOCHS)
    for _ in range(2):
        epoch()
    print("ready", flush=True)
    sys.stdin.readline()
    begun, count = perf_counter(), 0
    while perf_counter() - begun < seconds:
        epoch()
        count += STEPS
    print(count / (perf_counter() - begun), flush=True)


def at_once(count: int, name: str) -> None:
    """Recorded steps a second of several processes that begin together."""
    rates = together([sys.executable, __file__, "--work", name], count)
    print(f"{name}, {count} at once: {sum(rates):.0f} steps a second")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        sys.exit("this measures an NVIDIA GPU, but torch finds none; run it on a machine that has one.")
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2])
        return
    if sys.argv[1:2] == ["--at-once"]:
        at_once(int(sys.argv[2]), sys.argv[3])
        return
    print(torch.cuda.get_device_name(0), torch.__version__)
    evaluations()
    for name in sys.argv[1:] or METHODS:
        plain, recorded, lower = (
            everlearns(name, 3, training, "cuda", epochs=EPOCHS)
            for training in (
                Training(batch=10, graphs=False),
                Training(batch=10),
                Training(batch=10, precision="bfloat16"),
            )
        )
        slow, fast, low = milliseconds(plain, 2), milliseconds(recorded), milliseconds(lower)
        count, busy = kernels(recorded)
        print(
            f"{name}: plain {slow:.3f}, recorded {fast:.3f}, bfloat16 {low:.3f}, kernels {count:.0f}, busy {busy:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
