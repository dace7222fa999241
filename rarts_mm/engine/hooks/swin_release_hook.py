"""Original Swin checkpoints in ``load_from`` of any config."""

from mmengine.hooks import Hook

from rarts_mm.models.swin_release import convert_on_load
from rarts_mm.registry import HOOKS

from ..unwrapping import unwrapped


@HOOKS.register_module()
class SwinReleaseHook(Hook):
    """Let ``load_from`` and ``tools/test.py`` take the files of the original Swin releases.

    MMEngine loads checkpoints with ``strict=False``: without a conversion, a detector whose
    backbone has other names would start from a random backbone with no more than a warning. Files
    with MMDetection's names, those of a resumed run among them, pass unchanged.
    """

    # Before hooks that read the weights, such as EMAHook.
    priority = "VERY_HIGH"

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Convert ``checkpoint`` in place, before the runner hands it to the model."""
        # Classifiers are released as {'model': ...}, detectors as {'state_dict': ...}.
        key = next((key for key in ("state_dict", "model") if key in checkpoint), None)
        state_dict = checkpoint if key is None else checkpoint[key]
        model = unwrapped(runner.model)
        converted = convert_on_load(state_dict, model)
        if converted is state_dict:
            return
        runner.logger.info("The checkpoint is of an original Swin release: converted its names.")
        if key is None:
            checkpoint.clear()
        checkpoint["state_dict"] = converted
