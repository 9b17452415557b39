"""What a step of LASEM costs, as ratios measured interleaved in this process on one CPU thread (or the device given).

    tree_over_loop            the step with shared prefixes against the plain loop over all 16 configurations
    pruned_over_loop          the same, when one configuration has nearly all of the posterior and the M-step leaves
                              out those of no more than 1 %
    sparse_over_base          sparse EM (a full E-step every tenth minibatch), one configuration dominating, against a
                              step of the base learner, which transfers every block
    tree_over_base            the step with shared prefixes against the base learner's

The plain loop is Algorithm 1 written out: every configuration's network forward for the E-step, without dropout; then
every one again, with dropout, forward and backward, for the M-step; one update. CIFAR network of four blocks, 32 x 32
images, batch 10, channels last, TensorFlow 1's RMSProp. Each number is the median over five rounds of the ratio of two
timings (an epoch of 17 steps each) taken directly after each other, in alternating order.

    python benchmarks/lasem_step.py [cpu|cuda] [hps,tf,df-cnn]      some ten minutes on a CPU
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

import step
from everlearn.methods.base import Batch, Memory, Objective
from everlearn.methods.catalogue import make_method
from everlearn.methods.lasem import Lasem
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.training import fit
from everlearn.training.data import StreamData
from everlearn.training.settings import Training
from step import BATCH, Epoch, ratio, stream

DOMINANT = 6
Change = Callable[[Lasem, LifelongNetwork, Memory, Objective], Objective]


def everlearns(name: str, options: dict[str, str | float], device: torch.device, change: Change | None = None) -> Epoch:
    """One epoch of everlearn's own loop on the first task."""
    training = Training(epochs=10**6, batch=BATCH, rate=1e-12)
    method = make_method(name, "cifar", 1, options)
    network = method.network(make_backbone("cifar", (3, 32, 32)), 1, 0).to(device)
    memory: Memory = {}
    method.begin(network, memory, 10)
    method.enter(network, memory, [0], 0, {})
    network.train().requires_grad_(False)
    state = fit.State(network, memory, stage=0)
    data = StreamData(stream(), device, last=True)
    plan = fit.Plan(method, data, [10], training, 0)
    objective = method.objective(network, memory, 0, 0, "mean")
    if change is not None:
        assert isinstance(method, Lasem)
        objective = change(method, network, memory, objective)
    optimisers = fit._optimisers(plan, state, 0, objective)

    def epoch() -> None:
        for _ in fit._epoch(plan, state, 0, objective, optimisers, 1e-9):
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def plain_loop(method: Lasem, network: LifelongNetwork, memory: Memory, objective: Objective) -> Objective:
    """Algorithm 1 as it stands: all networks for the E-step, all again for the M-step."""
    space = method._space(network.blocks)

    def run(configuration: tuple[bool, ...], images: Tensor) -> Tensor:
        for block, transfer in enumerate(configuration):
            images = network.run_block(block, network.weights(block, 0, transfer), images)
        return network.head(0)(images)

    def steps(batch: Batch) -> Iterator[Tensor]:
        with torch.no_grad():
            network.eval()
            logits = torch.stack([run(c, batch.images) for c in space])
            network.train()
            true = logits.log_softmax(-1)[:, torch.arange(len(batch.labels)), batch.labels].double()
            posterior = ((memory["evidence"] / memory["evidence"].sum()).log() + true.sum(1)).softmax(0)
        weighted = [
            p * F.cross_entropy(run(c, batch.images), batch.labels)
            for p, c in zip(posterior.float(), space, strict=True)
        ]
        yield torch.stack(weighted).sum()
        memory["evidence"] = memory["evidence"] + F.one_hot(posterior.argmax(), len(space))

    return replace(objective, steps=steps)


def dominated(method: Lasem, network: LifelongNetwork, memory: Memory, objective: Objective) -> Objective:
    """One configuration has won nearly all of a billion minibatches."""
    memory["evidence"] = torch.ones_like(memory["evidence"])
    memory["evidence"][DOMINANT] = 1e9
    memory["posterior"] = memory["evidence"] / memory["evidence"].sum()
    return objective


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", nargs="?", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("rules", nargs="?", default="hps,tf,df-cnn")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(asked.device)
    step.ROUNDS = 5
    for name in asked.rules.split(","):
        base = everlearns(name, {}, device)
        loop = everlearns(f"lasem-{name}", {}, device, plain_loop)
        tree = everlearns(f"lasem-{name}", {}, device)
        pruned = everlearns(f"lasem-{name}", {"threshold": 0.01}, device, dominated)
        sparse = everlearns(f"lasem-{name}", {"threshold": 0.01, "e_step_every": 10}, device, dominated)
        for label, first, second in (
            ("tree_over_loop", tree, loop),
            ("pruned_over_loop", pruned, loop),
            ("sparse_over_base", sparse, base),
            ("tree_over_base", tree, base),
        ):
            print(f"{name} {label} {ratio(first, second):.3f}", flush=True)


if __name__ == "__main__":
    main()
