"""Refuses to go on with weights of another model."""

from mmengine.hooks import Hook

from rarts_mm.models.fit import UNKNOWN, listed, misfits
from rarts_mm.registry import HOOKS

from ..unwrapping import unwrapped


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Raises where a resumed run's checkpoint does not have exactly the model's entries.

    MMEngine would warn and go on with random weights in the places of those that do not fit. A plain
    checkpoint in ``load_from`` may differ, as heads do for other classes; one of a search in
    ``load_from`` of a search must have all that the search has.
    """

    # After SearchRecordHook, which says of what search it is, and before EMAHook, which loads it.
    priority = 45

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        model = unwrapped(runner.model)
        state = checkpoint.get("state_dict", checkpoint)
        # Tools that only test set no loop to train.
        resuming = runner._resume and runner._train_loop is not None
        of_search = hasattr(model, "alpha_parameters") and any(
            k.startswith("alpha.") for k in state
        )
        if not resuming and not of_search:
            return
        problems = misfits(model, state)
        if not resuming:
            # A search with two networks may give one of them to a search with one.
            problems = [line for line in problems if not line.endswith(UNKNOWN)]
        if problems:
            raise ValueError("\n".join(_message(runner, resuming, problems)))


def _message(runner, resuming: bool, problems: list[str]) -> list[str]:
    what = "cannot be resumed from" if resuming else "cannot be started from (load_from)"
    remedy = (
        "Resume with the config that it was written with (another number of classes is another model), or "
        "start anew with --cfg-options load_from=CHECKPOINT in another --work-dir"
        if resuming
        else "Start from the plain model's checkpoint, whose heads may differ, or give the config of the "
        "search that wrote this one"
    )
    return [
        f"checkpoint {runner._load_from} {what}: it does not fit the model of the config:",
        *listed(problems),
        remedy,
    ]
