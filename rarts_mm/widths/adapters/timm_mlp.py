"""timm's MLP."""

from torch import nn

from rarts_mm.registry import ADAPTERS

from .base import LinearPairAdapter
from .ffn import not_elementwise


@ADAPTERS.register_module()
class TimmMlpAdapter(LinearPairAdapter):
    """One alpha of hidden scores behind the first linear layer: MLP(X) = sigma(X W1 A) W2."""

    hosts = ("timm.layers.mlp.Mlp",)
    kind = "mlp"
    writer = "fc1"
    reader = "fc2"

    def writer_groups(self, host: nn.Module) -> int:
        return 1

    def reader_groups(self, host: nn.Module) -> int:
        return 1

    def unsupported_reason(self, host: nn.Module) -> str | None:
        if not isinstance(host.fc1, nn.Linear):
            return "its layers are convolutions"
        if reason := super().unsupported_reason(host):
            return reason
        for between in (host.act, host.norm):
            if reason := not_elementwise(between, host.fc1.out_features):
                return reason
        return None
