"""Refuses checkpoints of the wrong kind."""

from mmengine.hooks import Hook

from rarts_mm.invocation import spelled
from rarts_mm.registry import HOOKS

from ..unwrapping import unwrapped


@HOOKS.register_module()
class CheckpointKindHook(Hook):
    """Raises when a checkpoint cannot serve what it is loaded for; MMEngine would only warn.

    A search's checkpoint has no weights for a plain model, and only a checkpoint that a training
    wrote can be resumed.
    """

    priority = "VERY_HIGH"

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        model = unwrapped(runner.model)
        state = checkpoint.get("state_dict", checkpoint)
        search = any(k.startswith("alpha.") for k in state)
        if search and not hasattr(model, "alpha_parameters"):
            raise ValueError(
                "the checkpoint is one of a search, the config's model is a plain "
                f"{type(model).__name__}: prune it first ({spelled('prune')} CONFIG CHECKPOINT "
                "--ratio 0.4) and use the pruned.py that this writes, or give the search's config"
            )
        resuming = runner._resume and runner._train_loop is not None
        if resuming and ("message_hub" not in checkpoint or "epoch" not in checkpoint["meta"]):
            raise ValueError(
                "the checkpoint holds weights but no training state, so nothing can be resumed from "
                "it; to start from its weights give --cfg-options load_from=CHECKPOINT instead of "
                "--resume"
            )
