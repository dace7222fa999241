"""Inner widths of detectors' necks."""

from collections.abc import Mapping

from torch import nn

from rarts_mm.registry import ADAPTERS

from .chains import ChainAdapter
from .channels import Channels, conv_module


@ADAPTERS.register_module()
class FPNAdapter(ChainAdapter):
    """One score per channel of MMDetection's FPN between its lateral and its output convolutions.

    All levels share the channels, since the top-down path adds them up.
    """

    hosts = ("mmdet.models.necks.fpn.FPN",)

    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        levels = len(host.lateral_convs)
        laterals = [conv_module(host, f"lateral_convs.{i}") for i in range(levels)]
        read = list(range(levels))
        if host.add_extra_convs == "on_lateral" and len(host.fpn_convs) > levels:
            # The first of the extra levels; the others follow it.
            read.append(levels)
        readers = [conv_module(host, f"fpn_convs.{i}")[0] for i in read]
        return {
            "lateral_convs": Channels(
                tuple(conv for conv, _, _ in laterals),
                tuple(readers),
                tuple(path for _, norms, _ in laterals for path in norms),
                tuple(path for _, _, acts in laterals for path in acts),
            )
        }
