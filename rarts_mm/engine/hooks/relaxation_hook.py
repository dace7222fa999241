"""Tells the relaxation how far the search is."""

from mmengine.model import is_model_wrapper

from rarts_mm.registry import HOOKS

from .search_hook import SearchHook


@HOOKS.register_module()
class RelaxationHook(SearchHook):
    """Before every epoch: ``relaxation.set_progress`` hears which part of the epochs is done.

    The search loop registers it by itself.
    """

    def before_train_epoch(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        relaxation = getattr(model.space, "relaxation", None)
        if relaxation is not None:
            relaxation.set_progress(runner.epoch / runner.max_epochs)
