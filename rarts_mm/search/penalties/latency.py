"""The expected latency of a relaxed architecture."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rarts_mm.files import read_json
from rarts_mm.invocation import spelled
from rarts_mm.registry import PENALTIES

from .base import SearchedNetwork
from .smooth import SmoothPenalty


def _softmax(alpha: Tensor) -> Tensor:
    return alpha.softmax(-1)


@PENALTIES.register_module()
class LatencyPenalty(SmoothPenalty):
    """gamma * sum over edges of <softmax(alpha_edge), Lat_edge> (thesis, eq. 2.38; I, eq. 5).

    For topology searches, where alpha holds a row of scores per edge, one for each operation. Under
    another relaxation than softmax its weights stand for softmax's.

    A table that ``tools/latency_table.py`` has measured says of which network and device it is; one of
    another network, or of another size of its input, is refused.

    Args:
        latencies: milliseconds of each operation: a dict from the name of an alpha to an array of
            its shape, or of its last dimension's length if all edges cost the same; or a measured
            table; or the path of a JSON file that holds one of the two.
        gamma: weight per millisecond; the papers use 0.002.
        device: what the table must be measured on, such as ``'cpu'``, ``'cuda'`` or ``'H100'``: a part
            of the device's name in it. None: any, as the network may be deployed on another device
            than it is searched on.
        input_size: height and width that the table must be measured at. None: those of the images
            that are searched on, which the first batch shows.
    """

    def __init__(
        self,
        latencies: Mapping[str, Any] | str | Path,
        gamma: float = 0.002,
        device: str | None = None,
        input_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__(gamma)
        self.source = "the given dict"
        if isinstance(latencies, str | Path):
            self.source = str(latencies)
            latencies = _read(Path(latencies))
        if not isinstance(latencies, Mapping):
            raise ValueError(
                f"LatencyPenalty: latencies={latencies!r} must be a dict from the names of alpha to "
                f"milliseconds, or the path of a file of {spelled('latency-table')}"
            )
        record = latencies if "latencies" in latencies else {"latencies": latencies}
        for part in ("latencies", "network", "measured"):
            found = record.get(part)
            if not (isinstance(found, Mapping) or (found is None and part != "latencies")):
                raise ValueError(
                    f"LatencyPenalty: {self.source} holds no latency table: {part} is "
                    f"{found!r}, not a dict; measure one: {spelled('latency-table')} CONFIG"
                )
        # What the table says of its network and its measurement; empty if it says nothing.
        self.network: dict[str, Any] = dict(record.get("network") or {})
        self.measured: dict[str, Any] = dict(record.get("measured") or {})
        self.latencies = {n: _numbers(n, values) for n, values in record["latencies"].items()}
        self.input_size = None if input_size is None else [int(side) for side in input_size]
        self._check_record(device)
        self._names: tuple[str, ...] = ()
        self._tables: list[Tensor] = []
        self._weights: Callable[[Tensor], Tensor] = _softmax

    def _check_record(self, device: str | None) -> None:
        """What was asked of the table, against what it says of itself."""
        if self.network and "input_size" not in self.network:
            raise ValueError(
                f"LatencyPenalty: {self.source} says of which network it is, but not of which input "
                f"size; measure it anew with {spelled('latency-table')}"
            )
        size = self.network.get("input_size", [1, 1])
        if not (isinstance(size, Sequence) and [type(side) for side in size] == [int, int]):
            raise ValueError(
                f"LatencyPenalty: network.input_size of {self.source} is {size!r}, not height and "
                f"width in pixels; measure it anew with {spelled('latency-table')}"
            )
        if device is not None:
            found = str(self.measured.get("device", ""))
            if device.lower() not in found.lower():
                raise ValueError(
                    f"LatencyPenalty: device={device!r}, but {self.source} was measured on "
                    f"{found or 'an unknown device'!r}; measure one there with "
                    f"{spelled('latency-table')}, or leave out device"
                )
        if self.input_size is not None:
            found = self.network.get("input_size")
            if self.input_size != found:
                raise ValueError(
                    f"LatencyPenalty: input_size={self.input_size}, but {self.source} was measured at "
                    f"{found or 'an unknown size'}; measure one with {spelled('latency-table')} "
                    "--input-size, or leave out input_size"
                )

    def bind(self, alphas: Mapping[str, Tensor]) -> None:
        odd = sorted(set(self.latencies) ^ set(alphas))
        if odd:
            raise ValueError(
                f"LatencyPenalty: latencies are given for {sorted(self.latencies)[:5]}, alpha has "
                f"{sorted(alphas)[:5]}; they differ in {odd[:5]}"
            )
        for name, alpha in alphas.items():
            table = self.latencies[name]
            if tuple(table.shape) not in (tuple(alpha.shape), tuple(alpha.shape[-1:])):
                raise ValueError(
                    f"LatencyPenalty: latencies of {name!r} have shape {tuple(table.shape)}, its alpha "
                    f"{tuple(alpha.shape)}"
                )
            if not (table.isfinite().all() and (table >= 0).all()):
                raise ValueError(
                    f"LatencyPenalty: latencies of {name!r} must be finite numbers >= 0 (milliseconds)"
                )
        self._names = tuple(alphas)
        self._tables = [
            self.latencies[name].to(alpha).expand_as(alpha) for name, alpha in alphas.items()
        ]

    def check(self, searched: SearchedNetwork) -> None:
        self._weights = searched.weights
        if not self.network:
            return
        size = tuple(self.network["input_size"])
        if odd := differences(self.network, searched.identity(size)):
            raise ValueError(
                f"LatencyPenalty: {self.source} is of another network than the one searched ({odd}). "
                f"Measure this one: {spelled('latency-table')} CONFIG"
            )
        if self.input_size is None:
            self._watch(searched)

    def _watch(self, searched: SearchedNetwork) -> None:
        """Compare the size of the first batch in training with the table's.

        The images' size is a matter of the data pipeline: no module knows it before.
        """

        def compare(module: torch.nn.Module, args: tuple) -> None:
            if not module.training:
                return
            handle.remove()
            found, wanted = list(args[0].shape[-2:]), list(self.network["input_size"])
            if found != wanted:
                raise ValueError(
                    f"LatencyPenalty: {self.source} was measured at an input size of {wanted}, but the "
                    f"network is searched on images of {found}. Measure one at this size (python "
                    f"{spelled('latency-table')} CONFIG --input-size {found[0]} {found[1]}), or say that "
                    f"the derived network will see the other one: input_size={wanted}"
                )

        handle = searched.network.register_forward_pre_hook(compare)

    def expected(self, alphas: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Expected latency in ms, by the name of the alpha: P(alpha) in parts, without gamma."""
        return {
            name: (self._weights(alphas[name]) * table).sum()
            for name, table in zip(self._names, self._tables, strict=True)
        }

    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        named = dict(zip(self._names, alphas, strict=True))
        return self.gamma * torch.stack(list(self.expected(named).values())).sum()


def differences(of_table: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """In words, where a search network is not the one of a latency table; empty where it is."""
    found = json.loads(json.dumps(found))
    return "; ".join(
        f"{key}: {of_table.get(key)} in the table, {found.get(key)} here"
        for key in {**found, **of_table}
        if found.get(key) != of_table.get(key)
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"LatencyPenalty: latencies={str(path)!r} does not exist; measure them: python "
            f"{spelled('latency-table')} CONFIG --out {path}"
        )
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"LatencyPenalty: {path} is no latency table: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("latencies", {}), dict):
        raise ValueError(
            f"LatencyPenalty: {path} holds no latency table: a dict from the names of alpha to "
            "milliseconds, as it is or under the key 'latencies'"
        )
    return content


def _numbers(name: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"LatencyPenalty: latencies of {name!r} are no array of numbers: {error}"
        ) from error
