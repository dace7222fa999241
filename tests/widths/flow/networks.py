"""Small networks of the kinds that break pruners."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d


def conv(inputs: int, outputs: int, **more) -> nn.Sequential:
    more.setdefault("padding", more.get("kernel_size", 3) // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, more.pop("kernel_size", 3), **more),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class Plain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            conv(3, 12), conv(12, 10), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(40, 5)
        )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = conv(3, 12), conv(12, 9), nn.Conv2d(9, 12, 1)
        self.norm = nn.BatchNorm2d(12)
        self.down, self.head = nn.Conv2d(12, 14, 1, stride=2), nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.norm(self.outer(self.inner(x))))
        return self.head(self.down(x).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.less, self.more = conv(3, 12), nn.Conv2d(12, 5, 1), nn.Conv2d(5, 12, 1)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.more(F.relu(self.less(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(x * gate)


class CoordinateAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = conv(3, 12), conv(12, 6, kernel_size=1)
        self.high, self.wide = nn.Conv2d(6, 12, 1), nn.Conv2d(6, 12, 1)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        height, width = x.shape[2:]
        strips = [x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)]
        high, wide = self.shared(torch.cat(strips, 2)).split([height, width], 2)
        high, wide = self.high(high).sigmoid(), self.wide(wide.permute(0, 1, 3, 2)).sigmoid()
        return self.head(x * high * wide)


class EfficientChannelAttention(nn.Module):
    """A convolution over channels: they stay."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.over = conv(3, 12), nn.Conv1d(1, 1, 3, padding=1)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.over(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        return self.head(x * gate.transpose(1, 2).unsqueeze(-1))


class SpatialAttention(nn.Module):
    """Mean and maximum over channels: they stay."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.over = conv(3, 12), nn.Conv2d(2, 1, 3, padding=1)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.head(x * self.over(both).sigmoid())


class Chunks(nn.Module):
    """C2f of YOLO: one half goes on, all are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = conv(3, 12, kernel_size=1), nn.ModuleList([conv(6, 6), conv(6, 6)])
        self.last = conv(24, 8, kernel_size=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.inner:
            parts.append(block(parts[-1]))
        return self.head(self.last(torch.cat(parts, 1)))


class FixedSplit(nn.Module):
    """The same by numbers that stand in the code: what is split stays."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 12), conv(12, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x).split([6, 6], 1)
        return self.head(self.last(torch.cat([a, a * b], 1)))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 1)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.first(x))
        b, c, h, w = x.shape
        x = x.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = conv(3, 10), conv(10, 10), nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(self.again(self.again(x)))


class SharedHead(nn.Module):
    """Levels of a pyramid, one head, a scale for each level."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deeper = conv(3, 8), conv(8, 12, stride=2)
        self.lateral = nn.ModuleList([nn.Conv2d(8, 9, 1), nn.Conv2d(12, 9, 1)])
        self.tower = nn.Sequential(
            nn.Conv2d(9, 12, 3, padding=1, bias=False), nn.GroupNorm(3, 12), nn.ReLU()
        )
        self.out = nn.Conv2d(12, 4, 3, padding=1)
        self.scales = nn.ParameterList([nn.Parameter(torch.tensor(1.5)) for _ in range(2)])

    def forward(self, x: Tensor) -> list[Tensor]:
        low = self.stem(x)
        high = self.lateral[1](self.deeper(low))
        low = self.lateral[0](low) + F.interpolate(high, size=low.shape[2:], mode="nearest")
        return [
            self.out(self.tower(level)) * scale
            for level, scale in zip((low, high), self.scales, strict=True)
        ]


class GroupedAndDepthwise(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            conv(3, 12),
            nn.Conv2d(12, 18, 3, padding=1, groups=3),
            nn.Conv2d(18, 18, 3, padding=1, groups=18),
            nn.Conv2d(18, 36, 3, padding=1, groups=18),
            nn.Conv2d(36, 2, 1),
        )


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.offset = conv(3, 10), nn.Conv2d(10, 18, 3, padding=1)
        self.deformed, self.head = DeformConv2d(10, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.deformed(x, self.offset(x)))


class Transposed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            conv(3, 8, stride=2),
            nn.ConvTranspose2d(8, 12, 2, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(12, 12, 3, padding=1, groups=3),
            nn.Conv2d(12, 16, 1),
            nn.PixelShuffle(2),
            nn.Conv2d(4, 2, 1),
        )


class Standardised(nn.Module):
    """Weights that are standardised over their inputs: the inputs stay, the outputs can go."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 3, 3, 3))
        self.gain = nn.Parameter(torch.rand(10, 1, 1, 1) + 0.5)
        self.last = nn.Conv2d(10, 8, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / weight.std((1, 2, 3), keepdim=True) * self.gain
        return self.head(F.relu(self.last(F.relu(F.conv2d(x, weight, padding=1)))))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 4, 3, padding=1))
            for n in (8, 12, 16)
        )
        self.head = nn.Conv2d(20, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for block in self.blocks:
            features.append(block(torch.cat(features, 1)))
        return self.head(torch.cat(features, 1))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.depth = conv(3, 10), conv(1, 10)
        self.head = nn.Conv2d(10, 2, 1)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        return self.head(self.image(image) + self.depth(depth))


class Branching(nn.Module):
    """Its forward looks at shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large, self.head = conv(3, 8), conv(3, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.large(x) if x.shape[-1] > 10 else self.small(x)
        return self.head(x if x.shape[-1] % 2 else F.pad(x, (0, 1, 0, 1)))


class Filled(nn.Module):
    """Maps written into the parts of a larger one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        whole = x.new_zeros(len(x), a.shape[1] + b.shape[1], *x.shape[2:])
        whole[:, : a.shape[1]] = a
        whole[:, a.shape[1] :] = b
        return self.head(whole)


class ConvNeXtLike(nn.Module):
    """A stream of tokens with layer norms, layer scale and positions that are learned."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, stride=4)
        self.positions = nn.Parameter(torch.randn(1, 16, 12))
        self.norm, self.first, self.second = nn.LayerNorm(12), nn.Linear(12, 20), nn.Linear(20, 12)
        self.scale = nn.Parameter(torch.rand(12))
        self.last, self.head = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        x = x + self.scale * self.second(F.gelu(self.first(self.norm(x))))
        return self.head(self.last(x.mean(1)))


class Attention(nn.Module):
    """Heads are fixed in the code, their width is not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = nn.Linear(6, 12), nn.Linear(12, 3 * 16)
        self.out, self.head = nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 2, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / 4).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, -1))
        return self.head(x)


class Clipped(nn.Module):
    """ReLU6, and the larger of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.max(F.relu6(self.a(x)), self.b(x)))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.glu(self.first(x), 1))


class FusedAttention(nn.Module):
    """Its kernel divides by the root of the width, and numbers of it are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 2, 8
        self.stem, self.qkv = nn.Linear(6, 12), nn.Linear(12, 3 * 16)
        self.out, self.head = nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.head(x + self.out(y.transpose(1, 2).reshape(b, n, self.heads * self.width)))


class Branches(nn.Module):
    """Res2Net: parts of a width that is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 5
        self.first, self.inner = conv(3, 15), nn.ModuleList([conv(5, 5), conv(5, 5)])
        self.head = nn.Conv2d(15, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = torch.split(self.first(x), self.width, 1)
        b = self.inner[0](b + a)
        return self.head(torch.cat([a, b, self.inner[1](c + b)], 1))


class Merging(nn.Module):
    """Swin's patch merging: windows of pixels, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.reduction = (
            nn.Conv2d(3, 6, 1),
            nn.LayerNorm(24),
            nn.Linear(24, 8),
        )
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.unfold(self.stem(x), 2, stride=2).transpose(1, 2)
        return self.head(F.relu(self.reduction(self.norm(x))))


class TiedHeads(nn.Module):
    """It takes the heads' width from the stream's: only with the same share of both gone would it run."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = nn.Linear(6, 12), nn.Linear(12, 36)
        self.out, self.head = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / 4).softmax(-1)
        return self.head(x + self.out((weights @ v).transpose(1, 2).reshape(b, n, c)))


class CosineAttention(nn.Module):
    """Queries and keys of length one (Swin V2), and a sum over channels beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.last = nn.Linear(6, 12), nn.Linear(12, 18), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.qkv(x).unflatten(-1, (3, -1)).unbind(-2)
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1)
        return self.last(weights @ v) + x.sum(-1, keepdim=True)


class ReducedAttention(nn.Module):
    """Heads as wide as the stream by their number, keys of a smaller map (PVT): all lose the same share."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.width = heads, 12
        self.stem, self.last = nn.Conv2d(3, 12, 3), nn.Linear(12, 4)
        self.blocks = nn.ModuleList(ReducedBlock(heads, 12) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        size = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = x + block(x, size)
        return self.last(x)


class ReducedBlock(nn.Module):
    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.q, self.kv, self.last = nn.Linear(12, 12), nn.Linear(12, 24), nn.Linear(12, 12)
        self.reduce, self.norm = nn.Conv2d(12, 12, 2, 2), nn.LayerNorm(12)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        batch, tokens, width = x.shape
        q = self.q(x).reshape(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
        x = self.reduce(x.transpose(1, 2).reshape(batch, width, *size))
        x = self.norm(x.reshape(batch, width, -1).transpose(1, 2))
        kv = self.kv(x).reshape(batch, -1, 2, self.heads, self.width // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.last(x.transpose(1, 2).reshape(batch, tokens, self.width))


class WeightNormed(nn.Module):
    """A weight of rows of length one: over columns of channels that are zero, too. They stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(8, 3)
        self.weight = nn.Parameter(torch.randn(8, 12))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.norm(dim=1, keepdim=True)
        return self.last(F.linear(self.first(x).relu(), weight).relu())


class RowsSummed(nn.Module):
    """The same with a sum, and a view in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(8, 3)
        self.weight = nn.Parameter(torch.randn(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.exp().t()
        return self.last((self.first(x).relu() @ (weight / weight.sum(1, keepdim=True)).t()).relu())


class ChannelAttention(nn.Module):
    """A softmax over the channels of a head (XCiT): only whole heads can go, as many as are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.stem, self.qkv = nn.Linear(6, 10), nn.Linear(10, 3 * 12)
        self.temperature = nn.Parameter(torch.ones(4, 1, 1))
        self.out, self.head = nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, 3).permute(2, 0, 3, 4, 1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(-1)
        return self.head(x + self.out((weights @ v).permute(0, 3, 1, 2).reshape(b, n, -1)))


class TalkingHeads(nn.Module):
    """Linear layers over the heads, before the softmax and behind it (CaiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.stem, self.qkv = nn.Linear(6, 10), nn.Linear(10, 3 * 20)
        self.before, self.behind = nn.Linear(4, 4), nn.Linear(4, 4)
        self.out, self.head = nn.Linear(20, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = self.before((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).softmax(-2)
        weights = self.behind(weights).permute(0, 3, 1, 2)
        return self.head(x + self.out((weights @ v).transpose(1, 2).reshape(b, n, -1)))


class OwnParts(nn.Module):
    """Each head has its queries, keys and values side by side (LeViT), in a kernel that divides by their width."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 2, 6
        # With a bias torch takes the kernel apart.
        self.bias = nn.Parameter(torch.randn(2, 7, 7))
        self.stem, self.qkv = nn.Linear(6, 10), nn.Linear(10, 2 * 18)
        self.out, self.head = nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        parts = self.qkv(x).view(b, n, self.heads, -1).split([self.width] * 3, dim=3)
        q, k, v = (part.permute(0, 2, 1, 3) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias).transpose(1, 2)
        return self.head(x + self.out(y.reshape(b, n, self.heads * self.width)))


class DualPath(nn.Module):
    """Two slices of one map are no equal parts of it, though one is as wide as a third (DPN)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.width = nn.Conv2d(3, 12, 3), 8
        self.left, self.right = nn.Conv2d(8, 5, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.left(x[:, : self.width]) + self.right(x[:, self.width :])


class AsksItsBlock(nn.Module):
    """A width that a module further inside has written down (VAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Widened(3, 8), Widened(8, 10)])
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
            b, _, h, w = x.shape
            x = x.flatten(2).transpose(1, 2).reshape(b, h, w, block.width).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class Widened(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.width, self.layer = width, nn.Conv2d(before, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()


class AsksForFloat32(nn.Module):
    """Positions, a softmax and a norm in float32, whatever the network is in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 1)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        place = torch.arange(x.shape[-1], dtype=torch.float32).expand(len(x), 1, *x.shape[2:])
        x = x.float() * self.mix(place / x.shape[-1]).to(torch.float32).flatten(2).softmax(
            -1, dtype=torch.float32
        ).view(x.shape)
        return self.head(self.norm(x.mean((2, 3)).float()).type_as(x))


class ProductElsewhere(nn.Module):
    """Heads that are split in one module and multiplied in another."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.product = 4, Product()
        self.stem, self.qkv = nn.Linear(6, 10), nn.Linear(10, 3 * 20)
        self.out, self.head = nn.Linear(20, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.head(x + self.out(self.product(q, k, v).transpose(1, 2).reshape(b, n, -1)))


class Product(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1) / 3).softmax(-1) @ v
