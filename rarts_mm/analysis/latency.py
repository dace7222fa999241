"""Wall-clock time, measured side by side."""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn

from rarts_mm.samples import detection_sample, image_channels, synthetic_image

from .evaluating import evaluating


@dataclass(frozen=True)
class Latency:
    """Distribution of a call's wall-clock time, in milliseconds.

    Attributes:
        median: Half of the calls took less.
        lower, upper: Quartiles.
        repeats: Number of timed calls.
    """

    median: float
    lower: float
    upper: float
    repeats: int

    def to_dict(self) -> dict[str, float | int]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.median:.2f} ms ({self.lower:.2f} to {self.upper:.2f}, {self.repeats} runs)"


def environment(model: nn.Module | None = None) -> dict[str, Any]:
    """What latencies depend on and should be reported with: ready for JSON.

    Args:
        model: The one that is timed, for its device and type of numbers; else torch's defaults.
    """
    parameter = None if model is None else next(model.parameters(), None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if parameter is not None:
        device = parameter.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
    return {
        "device": f"{device.type}: {name}",
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def measure_latency(
    calls: Mapping[str, Callable[[], object]],
    repeats: int = 20,
    warmup: int = 3,
    after_round: Callable[[], object] | None = None,
) -> dict[str, Latency]:
    """Time calls in turns: A B C A B C ..., so that a machine's moods hit all of them alike.

    Calls run in ``torch.inference_mode``. Where CUDA is in use, the time runs until its work is
    done.

    Args:
        calls: Name -> what to time.
        repeats: Timed rounds.
        warmup: Rounds before that which are not timed.
        after_round: Called after every round, warm-up too; its time does not count.

    Raises:
        ValueError: Nothing to time, fewer than 1 repeat or a negative number of warm-up rounds.
    """
    if not calls:
        raise ValueError("There is nothing to time.")
    if repeats < 1 or warmup < 0:
        raise ValueError(
            f"Timing needs at least 1 repeat and no negative warm-up, got repeats={repeats} and "
            f"warmup={warmup}."
        )
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for number in range(warmup + repeats):
            for name, call in calls.items():
                _synchronize()
                start = time.perf_counter()
                call()
                _synchronize()
                elapsed = time.perf_counter() - start
                if number >= warmup:
                    times[name].append(1000 * elapsed)
            if after_round is not None:
                after_round()
    return {name: _summary(values) for name, values in times.items()}


def latency_of_models(
    models: Mapping[str, nn.Module],
    size: tuple[int, int],
    batch: int = 1,
    repeats: int = 20,
    warmup: int = 3,
) -> dict[str, Latency]:
    """Time what models do with images, side by side.

    For a detector or classifier of an OpenMMLab library this is the real prediction: ``test_step``,
    with normalisation, box selection and masks; other modules are called on a batch of images. All
    get the same images, in colour or grey as they take them, uint8 for the former. Models run in
    evaluation mode, afterwards they are in the mode they were in.

    Args:
        models: Name -> model.
        size: Height and width of the images, in pixels.
        batch: Number of images at a time.
        repeats, warmup: As for :func:`measure_latency`.
    """
    if batch < 1:
        raise ValueError(f"The batch must have at least 1 image, got {batch}.")
    if not models:
        raise ValueError("There is nothing to time.")
    calls = {name: _prediction(model, size, batch) for name, model in models.items()}
    with evaluating(nn.ModuleList(models.values())):
        return measure_latency(calls, repeats, warmup)


def _prediction(model: nn.Module, size: tuple[int, int], batch: int) -> Callable[[], object]:
    height, width = size
    image = synthetic_image(height, width, image_channels(model))
    if not isinstance(model, BaseModel):
        parameter = next(model.parameters())
        images = (image.to(parameter) / 127.5 - 1).repeat(batch, 1, 1, 1)
        return lambda: model(images)

    def predict() -> object:
        # Made anew: models write their results into the samples.
        data = {"inputs": [image.clone() for _ in range(batch)]}
        if hasattr(model, "bbox_head") or hasattr(model, "roi_head"):
            data["data_samples"] = [detection_sample(height, width) for _ in range(batch)]
        return model.test_step(data)

    return predict


def _synchronize() -> None:
    # Asking for a device would start CUDA where it is not in use.
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _summary(values: list[float]) -> Latency:
    if len(values) == 1:
        return Latency(values[0], values[0], values[0], 1)
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Latency(median, lower, upper, len(values))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
