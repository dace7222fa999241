"""One adapter per kind of layer that can carry scores."""

from .attention import (
    FusedAttentionAdapter,
    MultiheadAttentionAdapter,
    TimmAttentionAdapter,
    TimmWindowAttentionAdapter,
)
from .base import LayerAdapter, LinearPairAdapter, WidthAdapter
from .chains import ChainAdapter
from .channels import ChannelAdapter, Channels
from .convnext import ConvNeXtAdapter
from .ffn import FFNAdapter
from .group import GroupAdapter
from .heads import BoxHeadAdapter, MaskHeadAdapter, RetinaAdapter, RPNAdapter
from .inverted_residual import InvertedResidualAdapter, MobileNetV2Adapter
from .necks import FPNAdapter
from .preresnet import (
    PreActivationFirstAdapter,
    PreActivationSecondAdapter,
    PreActivationSelectionAdapter,
    PreResNetLastAdapter,
)
from .resnet import BasicBlockAdapter, BottleneckFirstAdapter, BottleneckSecondAdapter
from .sequential import SequentialAdapter
from .timm_mlp import TimmMlpAdapter
from .vgg import VGGAdapter
from .window_attention import WindowAttentionAdapter

__all__ = [
    "BasicBlockAdapter",
    "BottleneckFirstAdapter",
    "BottleneckSecondAdapter",
    "BoxHeadAdapter",
    "ChainAdapter",
    "ChannelAdapter",
    "Channels",
    "ConvNeXtAdapter",
    "FFNAdapter",
    "FPNAdapter",
    "FusedAttentionAdapter",
    "GroupAdapter",
    "InvertedResidualAdapter",
    "LayerAdapter",
    "LinearPairAdapter",
    "MaskHeadAdapter",
    "MobileNetV2Adapter",
    "MultiheadAttentionAdapter",
    "PreActivationFirstAdapter",
    "PreActivationSecondAdapter",
    "PreActivationSelectionAdapter",
    "PreResNetLastAdapter",
    "RPNAdapter",
    "RetinaAdapter",
    "SequentialAdapter",
    "TimmAttentionAdapter",
    "TimmMlpAdapter",
    "TimmWindowAttentionAdapter",
    "VGGAdapter",
    "WidthAdapter",
    "WindowAttentionAdapter",
]
