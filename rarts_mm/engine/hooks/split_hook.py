"""Records the halves of the data in every checkpoint."""

from mmengine.hooks import Hook

from rarts_mm.datasets import check_same_split
from rarts_mm.registry import HOOKS

KEY = "rarts_mm"


@HOOKS.register_module()
class SplitHook(Hook):
    """Writes how the data was split into the checkpoint and insists on the same split on resuming.

    A resumed search that trained w on images which u has seen would no longer be a search on two
    halves, and nothing else would show it.

    Args:
        split: the record of :func:`rarts_mm.datasets.split_halves`.
    """

    def __init__(self, split: dict) -> None:
        self.split = split

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        del runner
        checkpoint.setdefault(KEY, {})["split"] = self.split

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        recorded = checkpoint.get(KEY, {}).get("split")
        if recorded is None or not runner._resume:
            return
        check_same_split(recorded, self.split)
