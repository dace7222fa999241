"""VGG of MMPretrain: convolutions one after the other."""

from collections.abc import Mapping

from torch import nn

from rarts_mm.registry import ADAPTERS

from .chains import ChainAdapter, Step, chain
from .channels import Channels, conv_module


@ADAPTERS.register_module()
class VGGAdapter(ChainAdapter):
    """One score per channel between two convolutions, or linear layers of the classifier.

    Channels that leave the backbone, behind the stages in ``out_indices`` and at its end, are not scored.
    """

    hosts = ("mmpretrain.models.backbones.vgg.VGG",)

    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        runs: list[list[Step]] = [[]]
        for stage, (start, end) in enumerate(host.range_sub_modules):
            runs[-1] += [
                conv_module(host, f"features.{i}")
                for i in range(start, end)
                if not isinstance(host.features[i], nn.MaxPool2d)
            ]
            if stage in host.out_indices:
                runs.append([])
        if host.num_classes > 0:
            # Behind each linear layer an activation and a dropout; the last one writes the logits.
            runs[-1] += [(f"classifier.{i}", (), (f"classifier.{i + 1}",)) for i in (0, 3)]
            runs[-1].append(("classifier.6", (), ()))
        return {name: group for run in runs for name, group in chain(run).items()}
