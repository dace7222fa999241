"""What can be cut in one network, whether it is right, and what a peer does with it."""

import copy
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from covered.building import build
from torch import Tensor, nn

RATIOS = (0.3, 0.6)


def measure(suite: str, name: str) -> dict[str, Any]:
    """A row of the table."""
    from rarts_mm.widths.flow import find_groups
    from rarts_mm.widths.flow.costs import flop_cost

    network, images, run = build(suite, name)
    start = time.perf_counter()
    groups = find_groups(network, images, run)
    seconds = time.perf_counter() - start
    # Tables that no training changes are no weights.
    trained = {key: p.numel() for key, p in network.named_parameters() if p.requires_grad}
    total = sum(trained.values())
    inside = {key for group in groups.groups.values() for key in group.parameters}
    held = sum(size for key, size in trained.items() if key in inside)
    cost = flop_cost(groups)
    row = dict(
        network=name,
        parameters=total,
        size=images.shape[-1],
        groups=len(groups.groups),
        held=held / total,
        held_flops=1 - cost.terms.get((), 0.0) / max(cost.whole, 1),
        seconds=round(seconds, 1),
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        errors={},
        left={},
        frozen=_reasons(network, groups, inside, total),
    )
    for ratio in RATIOS:
        row["errors"][ratio], row["left"][ratio] = _cut(network, groups, images, run, ratio)
    return row


def _cut(
    network: nn.Module, groups: Any, images: Tensor, run: Callable, ratio: float
) -> tuple[float | None, float | None]:
    """Relative difference of cut and masked network, and the share of parameters that is left."""
    from rarts_mm.widths.flow.cutting import cut_network
    from rarts_mm.widths.flow.record import Cut
    from rarts_mm.widths.flow.trial import worst_difference
    from rarts_mm.widths.flow.watching import compute, masked_outputs, outputs_in

    generator = torch.Generator().manual_seed(1)
    kept = {}
    for name, size in groups.sizes.items():
        order = torch.randperm(size, generator=generator)
        kept[name] = order[: max(size - round(ratio * size), 1)].sort().values
    smaller = cut_network(copy.deepcopy(network), Cut.of(groups, kept))
    counts = [sum(p.numel() for p in each.parameters()) for each in (smaller, network)]
    wanted = masked_outputs(network, groups, kept, images, run)
    with torch.no_grad():
        found = outputs_in(compute(smaller, images, run))
    return worst_difference(wanted, found), counts[0] / counts[1]


def _reasons(network: nn.Module, groups: Any, inside: set[str], total: int) -> dict[str, float]:
    """Why parameters are in no group -> their share."""
    of = {key: p for key, p in network.named_parameters() if p.requires_grad}
    reasons: Counter[str] = Counter()
    for name, parameter in of.items():
        if name in inside:
            continue
        why = [f.reason for f in groups.frozen if any(name == key for key, _ in f.places)]
        telling = [each for each in why if "kernel" not in each and "puts it out" not in each]
        reasons[(telling or why or ["it was not run"])[0].split(" (")[0][:100]] += (
            parameter.numel() / total
        )
    return {reason: share for reason, share in reasons.most_common(3) if share > 0.005}


def peer(suite: str, name: str) -> str:
    """What Torch-Pruning, where it is installed, does with the network at 40 % of every layer."""
    try:
        import torch_pruning
    except ImportError:
        return "not installed"
    if suite == "mmdet":
        return "detectors are not run"
    network, images, _ = build(suite, name)
    network, images = network.float(), images.float()
    ignored = [m for m in network.modules() if isinstance(m, nn.Linear)][-1:]
    try:
        pruner = torch_pruning.pruner.MagnitudePruner(
            network,
            images,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=0.4,
            ignored_layers=ignored,
        )
        pruner.step()
    # Whatever it is: that is the result.
    except Exception as error:
        return f"raises {type(error).__name__} while pruning"
    try:
        with torch.no_grad():
            network(images)
    except Exception as error:
        return f"does not run afterwards ({type(error).__name__})"
    return "runs"


def main(what: str, suite: str, name: str) -> None:
    """Print the row, or what the peer does, as JSON: the last line of the output."""
    torch.set_num_threads(1)
    print(json.dumps({"row": measure, "peer": peer}[what](suite, name)))


if __name__ == "__main__":
    main(*sys.argv[1:])
