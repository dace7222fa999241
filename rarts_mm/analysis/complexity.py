"""Parameters and multiply-adds, without computing anything."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from rarts_mm.samples import detection_sample, image_channels

from .evaluating import evaluating
from .stand_ins import put_stand_ins

# The whole model, in Complexity's tables.
WHOLE = ""
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)


@dataclass(frozen=True)
class Complexity:
    """What a model costs.

    Attributes:
        size: Height and width of the one image, in pixels.
        flops: Path of a module -> its multiply-adds, those of its children included; ``''`` is the
            whole model. Modules that did not run are absent.
        parameters: Path of a module -> its parameters, children included; ``''`` is the whole.
        not_run: Paths of convolutions and linear layers that took no part in the forward pass, so
            ``flops`` lacks them: auxiliary heads of training for example.
        proposals: Number of boxes that a two-stage detector's heads were counted on, by kind
            (``bbox``, ``mask``); empty for other models.
    """

    size: tuple[int, int]
    flops: dict[str, int]
    parameters: dict[str, int]
    not_run: tuple[str, ...] = ()
    proposals: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Multiply-adds of the whole model for one image."""
        return self.flops.get(WHOLE, 0)

    @property
    def total_parameters(self) -> int:
        """Parameters of the whole model."""
        return self.parameters[WHOLE]


def count_parameters(model: nn.Module) -> int:
    """Number of elements of all parameters, shared ones once, frozen ones too."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, size: tuple[int, int]) -> Complexity:
    """Count multiply-adds of convolutions, linear layers and attention products, nothing else.

    One image, evaluation mode, no post-processing. Counted is what the layers are given: tokens
    that a Swin pads its windows with cost what others cost. The model runs on tensors without data
    (:class:`torch._subclasses.fake_tensor.FakeTensorMode`), so nothing is computed or allocated on
    any device, whatever the size. Scores (:class:`rarts_mm.widths.ScoredLinear`) cost nothing.

    The heads of a two-stage detector run on fixed numbers of boxes, so that the count does not
    depend on weights: ``test_cfg.rpn.max_per_img`` for the boxes (of every cascade stage) and
    ``test_cfg.rcnn.max_per_img`` for the masks. These are 1000 and 100 in COCO settings, which are
    also the numbers behind the FLOPs that MMDetection's model zoo and the Swin paper print.

    Args:
        model: A classifier of MMPretrain, a detector of MMDetection, any other model of MMEngine
            that runs with ``mode='tensor'``, or a module that takes a batch of images. It is not
            changed.
        size: Height and width of the image, in pixels.

    Raises:
        ValueError: The size is not two positive numbers, or the model does not run at it.
    """
    height, width = _checked_size(size)
    # The numbers of boxes have to be known before anything runs.
    two_stage = _is_two_stage(model)
    proposals = _proposals(model) if two_stage else {}

    def forward(network: nn.Module, images: Tensor) -> None:
        if two_stage:
            _run_two_stage(network, images, proposals)
        elif isinstance(network, BaseModel):
            network(images, _samples(network, height, width), mode="tensor")
        else:
            network(images)

    try:
        flops = _count(model, forward, (1, image_channels(model), height, width))
    # What hosts raise when a size does not suit them.
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"The {type(model).__name__} does not run on one image of {height} x {width} pixels, "
            f"so its FLOPs cannot be counted ({type(error).__name__}: {error}). Give a size that "
            "it accepts, or one of its parts, such as the backbone."
        ) from error
    parameters = {path: count_parameters(module) for path, module in model.named_modules()}
    not_run = tuple(
        path
        for path, module in model.named_modules()
        if isinstance(module, _WEIGHTED)
        and path not in flops
        and not _multiplies(path.rpartition(".")[0], flops)
    )
    _add_containers(flops, model)
    return Complexity((height, width), flops, parameters, not_run, proposals)


def _children(path: str, flops: dict[str, int]) -> list[str]:
    """The outermost modules inside ``path`` that ran."""
    inside = [p for p in flops if p != path and (p.startswith(f"{path}.") or path == WHOLE)]
    return [p for p in inside if not any(p.startswith(f"{other}.") for other in inside)]


def _multiplies(path: str, flops: dict[str, int]) -> bool:
    """Whether a module multiplies itself, perhaps with the weights of a child that never runs."""
    return path in flops and flops[path] > sum(flops[child] for child in _children(path, flops))


def _add_containers(flops: dict[str, int], model: nn.Module) -> None:
    """Add modules that only hold others that ran: lists, and heads whose parts are called."""
    ran = dict(flops)
    for path, _ in model.named_modules():
        if path not in ran and (children := _children(path, ran)):
            flops[path] = sum(ran[child] for child in children)


def _count(
    model: nn.Module, forward: Callable[[nn.Module, Tensor], None], shape: tuple[int, ...]
) -> dict[str, int]:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    network = _hollow(model, fake)
    put_stand_ins(network)
    try:
        with fake:
            return _counted(network, forward, torch.zeros(shape, dtype=_dtype(model)))
    except RuntimeError:
        # A selection that depends on values, or an operator compiled outside torch, needs values.
        # If it was another error, it comes again.
        network = copy.deepcopy(model).cpu().requires_grad_(False)
        put_stand_ins(network)
        return _counted(network, forward, torch.zeros(shape, dtype=_dtype(model)))


def _counted(
    network: nn.Module, forward: Callable[[nn.Module, Tensor], None], images: Tensor
) -> dict[str, int]:
    # The counter names modules from the first one that is entered; the parts of a detector are
    # entered one after the other, so there has to be one around them.
    root = _Root(network, forward)
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa_flops,
        },
    )
    with evaluating(root), torch.no_grad(), _unfused_attention(), counter:
        root(images)
    flops = {}
    whole = f"{_Root.__name__}.network"
    for name, by_operator in counter.get_flop_counts().items():
        # The counter's unit is 2 for a multiplication and an addition.
        count = sum(by_operator.values()) // 2
        if name == "Global":
            flops[WHOLE] = count
        elif name.startswith(whole + "."):
            flops[name[len(whole) + 1 :]] = count
    flops.setdefault(WHOLE, 0)
    return flops


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Without the operator that is a whole nn.MultiheadAttention, which the counter overlooks."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class _Root(nn.Module):
    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], None]) -> None:
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, images: Tensor) -> None:
        self.call(self.network, images)


def _sdpa_flops(query, key, value, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(query, key, value)


def _hollow(model: nn.Module, fake: FakeTensorMode) -> nn.Module:
    """A copy of ``model`` without values, as if on the CPU."""
    memo = {}
    for module in model.modules():
        # In __dict__ are tensors that a module refers to and does not own: scores.
        for store in (module._parameters, module._buffers, vars(module)):
            for tensor in store.values():
                if isinstance(tensor, Tensor) and id(tensor) not in memo:
                    with fake:
                        empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                        if isinstance(tensor, nn.Parameter):
                            # The counter watches for gradients where one is asked for.
                            empty = nn.Parameter(empty, requires_grad=False)
                    memo[id(tensor)] = empty
    return copy.deepcopy(model, memo)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    whole = isinstance(size, tuple | list) and all(
        isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size
    )
    if not whole or len(size) != 2:
        raise ValueError(
            f"The size must be the height and width of an image in pixels, such as (224, 224), "
            f"got {size!r}."
        )
    return size[0], size[1]


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _is_two_stage(model: nn.Module) -> bool:
    return isinstance(model, BaseModel) and getattr(model, "roi_head", None) is not None


def _samples(model: nn.Module, height: int, width: int) -> list | None:
    """What a detector's forward may ask about the image."""
    if not type(model).__module__.startswith("mmdet.") and not hasattr(model, "bbox_head"):
        return None
    sample = detection_sample(height, width)
    sample.set_metainfo({"batch_input_shape": (height, width)})
    return [sample]


def _proposals(model: nn.Module) -> dict[str, int]:
    test_cfg = model.test_cfg
    rpn = test_cfg.get("rpn") or {}
    rcnn = test_cfg.get("rcnn") or {}
    proposals = {"bbox": rpn.get("max_per_img", 1000)}
    if model.roi_head.with_mask:
        proposals["mask"] = rcnn.get("max_per_img", 100)
    return proposals


def _run_two_stage(model: nn.Module, images: Tensor, proposals: dict[str, int]) -> None:
    features = model.extract_feat(images)
    if model.with_rpn:
        model.rpn_head(features)
    head = model.roi_head
    # A cascade has a list of heads and says which one is to run.
    stages = [(i,) for i in range(head.num_stages)] if hasattr(head, "num_stages") else [()]
    height, width = images.shape[-2:]
    # Hybrid Task Cascade segments the image besides, and its heads see that too.
    extra = {}
    if getattr(head, "with_semantic", False):
        extra["semantic_feat"] = head.semantic_head(features)[1]
    for stage in stages:
        if head.with_bbox:
            boxes = _boxes(proposals["bbox"], height, width)
            head._bbox_forward(*stage, features, boxes, **extra)
        # With its mask information flow, one call runs all mask heads in turn.
        flow = hasattr(head, "mask_info_flow")
        if head.with_mask and not (flow and stage != stages[-1]):
            boxes = _boxes(proposals["mask"], height, width)
            testing = {"training": False} if flow else {}
            head._mask_forward(*stage, features, boxes, **extra, **testing)


def _boxes(count: int, height: int, width: int) -> Tensor:
    """``count`` boxes (count, 5), of the one image: index, x1, y1, x2, y2."""
    box = torch.tensor([[0.0, 0.0, 0.0, width, height]])
    return box.repeat(count, 1)
