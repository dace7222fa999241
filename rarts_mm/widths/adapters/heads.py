"""Hidden layers of detectors' heads."""

from collections.abc import Mapping

from torch import nn

from rarts_mm.registry import ADAPTERS

from .base import random_input
from .chains import ChainAdapter, Step, chain
from .channels import Channels, conv_module

# Regions of interest, or images, that a head is tried with.
_BATCH = 3


@ADAPTERS.register_module()
class RPNAdapter(ChainAdapter):
    """Channels of MMDetection's region proposal network, behind its convolutions."""

    hosts = ("mmdet.models.dense_heads.rpn_head.RPNHead",)
    methods = ("forward", "forward_single")

    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        if isinstance(host.rpn_conv, nn.Sequential):
            steps = [conv_module(host, f"rpn_conv.{i}") for i in range(len(host.rpn_conv))]
        else:
            # Its ReLU is a function.
            steps = [("rpn_conv", (), ())]
        return chain(steps, ("rpn_cls", "rpn_reg"))

    def example(self, host: nn.Module) -> tuple:
        return ([random_input(2, host.in_channels, *size) for size in ((13, 17), (7, 9))],)


@ADAPTERS.register_module()
class RetinaAdapter(ChainAdapter):
    """Channels of MMDetection's ``RetinaHead`` between the convolutions of its two branches."""

    hosts = ("mmdet.models.dense_heads.retina_head.RetinaHead",)
    methods = ("forward", "forward_single")

    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        groups = {}
        for branch in ("cls", "reg"):
            convs = f"{branch}_convs"
            steps = [conv_module(host, f"{convs}.{i}") for i in range(len(getattr(host, convs)))]
            groups |= chain(steps, (f"retina_{branch}",))
        return groups

    def example(self, host: nn.Module) -> tuple:
        return ([random_input(2, host.in_channels, *size) for size in ((13, 17), (7, 9))],)


@ADAPTERS.register_module()
class BoxHeadAdapter(ChainAdapter):
    """Hidden layers of MMDetection's ``ConvFCBBoxHead``: shared ones, and those of each branch."""

    hosts = ("mmdet.models.roi_heads.bbox_heads.convfc_bbox_head.ConvFCBBoxHead",)

    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        shared, cls, reg = (self._branch(host, name) for name in ("shared", "cls", "reg"))
        ends = []
        groups = {}
        for steps, last in ((cls, "fc_cls"), (reg, "fc_reg")):
            if not hasattr(host, last):
                continue
            groups |= chain(steps, (last,))
            ends.append(steps[0][0] if steps else last)
        return chain(shared, tuple(ends)) | groups

    @staticmethod
    def _branch(host: nn.Module, name: str) -> list[Step]:
        convs = getattr(host, f"{name}_convs")
        fcs = getattr(host, f"{name}_fcs")
        steps = [conv_module(host, f"{name}_convs.{i}") for i in range(len(convs))]
        return steps + [(f"{name}_fcs.{i}", (), ("relu",)) for i in range(len(fcs))]

    def example(self, host: nn.Module) -> tuple:
        return (random_input(_BATCH, host.in_channels, *host.roi_feat_size),)


@ADAPTERS.register_module()
class MaskHeadAdapter(ChainAdapter):
    """Hidden layers of MMDetection's ``FCNMaskHead``."""

    hosts = ("mmdet.models.roi_heads.mask_heads.fcn_mask_head.FCNMaskHead",)

    def groups(self, host: nn.Module) -> Mapping[str, Channels]:
        steps = [conv_module(host, f"convs.{i}") for i in range(len(host.convs))]
        if host.upsample_method == "deconv":
            steps.append(("upsample", (), ("relu",)))
        elif host.upsample_method == "carafe":
            raise LookupError("its upsampling (CARAFE) mixes the channels")
        return chain(steps, ("conv_logits",))

    def example(self, host: nn.Module) -> tuple:
        return (random_input(_BATCH, host.in_channels, *host.roi_feat_size),)
