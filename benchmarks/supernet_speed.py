"""Time and activation memory of the search networks' passes, beside their literal construction.

Both compute the same numbers from the same weights, in one process and in turns; the literal one also
in channels-last layout, which is part of what the network does on a CPU.

    python benchmarks/supernet_speed.py
    python benchmarks/supernet_speed.py --network nats --batch 64 --device cuda
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rarts_mm.analysis import environment
from rarts_mm.apis import command_line
from rarts_mm.cells import DARTSSearchNetwork, NATSSearchNetwork
from rarts_mm.files import write_text
from steps.literal_supernet import literal_forward
from steps.timing import quartiles

NETWORKS = {"darts": DARTSSearchNetwork, "nats": NATSSearchNetwork}
OWN, LITERAL, LAST = "search network", "literal", "literal, channels-last"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=sorted(NETWORKS), default="darts")
    parser.add_argument("--channels", type=int, default=16, help="C (default: 16)")
    parser.add_argument("--batch", type=int, default=16, help="images (default: 16)")
    parser.add_argument("--size", type=int, default=32, help="pixels of an image's side")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument("--json", metavar="OUT", help="write the results to this file")
    args = parser.parse_args(argv)
    for name in ("channels", "batch", "size", "repeats", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value}: give at least 1")
    return args


def measure(args: argparse.Namespace) -> dict:
    """Seconds of processor time (CPU) or of the clock (CUDA), and bytes kept for the backward pass."""
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    network = NETWORKS[args.network](channels=args.channels).to(args.device)
    literal = copy.deepcopy(network)
    alphas = {
        kind: (1e-3 * torch.randn(shape, device=args.device)).requires_grad_()
        for kind, shape in network.shapes.items()
    }
    network.bind(alphas, network.relaxation)
    x = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    last = x.contiguous(memory_format=torch.channels_last)
    passes = {
        OWN: lambda: network(x)[0],
        LITERAL: lambda: literal_forward(literal, x, alphas),
        LAST: lambda: literal_forward(literal, last, alphas),
    }
    with torch.no_grad():
        difference = (passes[OWN]() - passes[LITERAL]()).abs().max().item()
    seconds = {name: {"forward": [], "forward and backward": []} for name in passes}
    for forward in passes.values():
        _train(forward)
    for _ in range(args.repeats):
        for name, forward in passes.items():
            seconds[name]["forward"].append(_time(_without_graph(forward), args.device))
            seconds[name]["forward and backward"].append(
                _time(lambda forward=forward: _train(forward), args.device)
            )
    return dict(
        settings={k: v for k, v in vars(args).items() if k != "json"}
        | dict(threads=torch.get_num_threads()),
        environment=environment(),
        difference=difference,
        seconds={n: {k: quartiles(v) for k, v in kinds.items()} for n, kinds in seconds.items()},
        kept={name: _kept(forward) for name, forward in passes.items()},
    )


def _train(forward: Callable[[], Tensor]) -> None:
    forward().square().mean().backward()


def _without_graph(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return torch.no_grad()(forward)


def _time(call: Callable[[], object], device: str) -> float:
    if device == "cpu":
        # Of this process: what else runs on the machine counts less.
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _kept(forward: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that the graph of a forward pass keeps, each memory once; no parameters."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = forward()
    del out
    return sum(sizes.values())


def show(results: dict) -> None:
    console = Console()
    table = Table(title=f"{results['settings']['network']}, batch {results['settings']['batch']}")
    for column in (
        "construction",
        "forward",
        "of literal",
        "forward and backward",
        "of literal",
        "kept",
    ):
        table.add_column(column, justify="left" if column == "construction" else "right")
    for name, kinds in results["seconds"].items():
        cells = []
        for kind, values in kinds.items():
            base = results["seconds"][LITERAL][kind]["median"]
            cells += [f"{1e3 * values['median']:.0f} ms", f"{values['median'] / base:.2f}"]
        table.add_row(name, *cells, f"{results['kept'][name] / 2**20:.0f} MiB")
    console.print(table)
    console.print(f"largest difference of the outputs: {results['difference']:.1e}")


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse_args(argv)
    results = measure(args)
    show(results)
    if args.json:
        write_text(args.json, json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    command_line.run(main)
