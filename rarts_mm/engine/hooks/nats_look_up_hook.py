"""Looks up what NATS-Bench has measured of the architecture that a search ends with."""

import json
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from rarts_mm.cells.nats import LookUp, LookUpUnavailable, NATSSpace
from rarts_mm.files import write_text
from rarts_mm.registry import HOOKS

from .search_hook import SearchHook

RECORD = "nats.json"


@HOOKS.register_module()
class NATSLookUpHook(SearchHook):
    """At the end: the architecture's string, its share of skip connections and its test accuracy.

    They go to the log and to ``nats.json`` in the work dir. Without the benchmark's package or files
    the accuracy is "not looked up", with the reason; no other number stands for it.

    Args:
        dataset: ``'cifar10'``, ``'cifar100'`` or ``'ImageNet16-120'``, of the benchmark.
        path: folder of the benchmark's files, which are pickles: trusted paths only. Default:
            ``$TORCH_HOME/NATS-tss-v1_0-3ffb9-simple``.
    """

    # After the genotype's hook.
    priority = "LOW"

    def __init__(self, dataset: str = "cifar10", path: str | None = None) -> None:
        self.dataset, self.path = dataset, path

    def before_train(self, runner) -> None:
        space = getattr(_model(runner), "space", None)
        if not isinstance(space, NATSSpace):
            raise ValueError(
                f"NATSLookUpHook: a {type(space).__name__} searches no architecture of NATS-Bench; "
                "take the hook out of custom_hooks, or give model.space=dict(type='NATSSpace')"
            )

    def after_train(self, runner) -> None:
        if not is_main_process():
            return
        model = _model(runner)
        architecture = model.space.derive(model.alpha_parameters())
        record = dict(
            architecture=architecture.text(),
            skip_share=architecture.skip_share,
            dataset=self.dataset,
            test_accuracy=None,
        )
        try:
            accuracy = LookUp(self.path).accuracy(architecture, self.dataset)
        except LookUpUnavailable as error:
            record["reason"] = str(error)
            said = f"accuracy not looked up ({error})"
        else:
            record["test_accuracy"] = accuracy
            said = f"test accuracy {accuracy:.2f} % on {self.dataset} by NATS-Bench (200 epochs)"
        write_text(Path(runner.work_dir) / RECORD, json.dumps(record, indent=1) + "\n")
        runner.logger.info(
            "NATS-Bench architecture %s: skip %.1f %%, %s",
            *(record["architecture"], 100 * record["skip_share"], said),
        )


def _model(runner):
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
