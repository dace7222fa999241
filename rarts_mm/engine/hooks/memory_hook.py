"""Says before a search starts how much memory its networks need."""

from rarts_mm.analysis import estimate_search_memory
from rarts_mm.registry import HOOKS

from .search_hook import SearchHook


@HOOKS.register_module()
class MemoryHook(SearchHook):
    """Prints the memory for weights, gradients and optimiser states before the search starts.

    A search holds two networks and their optimisers; better to know before the first step than from
    an out-of-memory error in it.
    """

    def before_run(self, runner) -> None:
        stepper = getattr(runner.optim_wrapper, "stepper", None)
        if stepper is None:
            return
        rule = runner.optim_wrapper.alternation
        players = {name: (p.params, p.optimizer) for name, p in stepper.players.items()}
        runner.logger.info(
            "%s", estimate_search_memory(players, rule.gradients_at_once, rule.copies)
        )
