"""A run that is killed while it saves loses nothing that was saved before."""

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook

from rarts_mm.registry import HOOKS

from .. import atomic_backend


@HOOKS.register_module()
class CheckpointFilesHook(Hook):
    """Lets :class:`mmengine.hooks.CheckpointHook` write whole files, and keep at least two of them.

    A ``backend_args`` of the config stays, and so does a folder that is not on a local disk.
    """

    # After CheckpointHook has found its folder.
    priority = "LOWEST"

    def before_run(self, runner) -> None:
        for hook in _checkpoint_hooks(runner):
            if 0 < hook.max_keep_ckpts < 2:
                runner.logger.info(
                    "Two checkpoints are kept instead of %d: if the last one is broken, the run can "
                    "be resumed from the one before it.",
                    hook.max_keep_ckpts,
                )
                hook.max_keep_ckpts = 2
            remote = "://" in str(hook.out_dir or runner.work_dir)
            if hook.backend_args is None and hook.file_client_args is None and not remote:
                hook.backend_args = dict(backend=atomic_backend.NAME)

    def before_train(self, runner) -> None:
        if not is_main_process():
            return
        for hook in _checkpoint_hooks(runner):
            if (hook.backend_args or {}).get("backend") != atomic_backend.NAME:
                continue
            for path in atomic_backend.remove_unfinished(hook.out_dir):
                runner.logger.info("Removed %s, which a killed run had not finished.", path)


def _checkpoint_hooks(runner) -> list[CheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
