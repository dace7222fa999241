"""The expected latency of a relaxed architecture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rarts_mm.registry import PENALTIES

from .base import Penalty


@PENALTIES.register_module()
class LatencyPenalty(Penalty):
    """gamma * sum over edges of <softmax(alpha_edge), Lat_edge> (thesis, eq. 2.38; I, eq. 5).

    For topology searches, where alpha holds a row of scores per edge, one for each operation.

    Args:
        latencies: milliseconds of each operation: a dict from the name of an alpha to an array of
            its shape, or of its last dimension's length if all edges cost the same; or the path of
            a JSON file that holds such a dict (under the key ``latencies`` if it says more).
        gamma: weight per millisecond; the papers use 0.002.
    """

    def __init__(
        self, latencies: Mapping[str, Sequence] | str | Path, gamma: float = 0.002
    ) -> None:
        super().__init__(gamma)
        if isinstance(latencies, str | Path):
            path = Path(latencies)
            if not path.is_file():
                raise ValueError(
                    f"LatencyPenalty: latencies={str(path)!r} does not exist; give a JSON file with a "
                    "dict from the names of alpha to milliseconds"
                )
            content = json.loads(path.read_text())
            latencies = content.get("latencies", content)
        self.latencies = {
            name: torch.as_tensor(value, dtype=torch.float64) for name, value in latencies.items()
        }
        self._tables: list[Tensor] = []

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
        self._tables = [
            self.latencies[name].to(alpha).expand_as(alpha) for name, alpha in alphas.items()
        ]

    def value(self, alphas: Sequence[Tensor]) -> Tensor:
        pairs = zip(alphas, self._tables, strict=True)
        return self.gamma * torch.stack([(a.softmax(-1) * t).sum() for a, t in pairs]).sum()

    def _gradient(self, alphas: Sequence[Tensor]) -> list[Tensor]:
        """dP/dalpha_i = p_i (Lat_i - <p, Lat>) with p = softmax(alpha), edge by edge."""
        shares = [a.softmax(-1) for a in alphas]
        return [
            p * (t - (p * t).sum(-1, keepdim=True))
            for p, t in zip(shares, self._tables, strict=True)
        ]

    def add_gradient_(self, alphas: Sequence[Tensor], factor: float = 1.0) -> None:
        if self.gamma * factor:
            gradients = [alpha.grad for alpha in alphas]
            torch._foreach_add_(gradients, self._gradient(alphas), alpha=self.gamma * factor)

    def residual_(
        self, gradients: Sequence[Tensor], alphas: Sequence[Tensor], factor: float
    ) -> None:
        torch._foreach_add_(list(gradients), self._gradient(alphas), alpha=self.gamma * factor)
