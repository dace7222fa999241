"""Models in several processes."""

from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import nn

from rarts_mm.registry import MODEL_WRAPPERS

from .sync_batch_norm import synchronise_on_cpu


@MODEL_WRAPPERS.register_module()
class SearchDistributed(nn.Module):
    """Wraps a search model for distributed training; named in ``model_wrapper_cfg``.

    Torch's DistributedDataParallel averages every gradient after every backward pass. A search takes
    several backward passes a step, each for one group of parameters, so here the optim wrapper
    averages just the gradients of the group about to step, and this wrapper only passes calls on.
    The Runner itself makes weights equal on all ranks after initialisation. SyncBN layers run on CPUs
    too.
    """

    def __init__(self, module: BaseModel) -> None:
        super().__init__()
        self.module = synchronise_on_cpu(module)

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def train_step(self, data, optim_wrapper):
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data):
        return self.module.val_step(data)

    def test_step(self, data):
        return self.module.test_step(data)


@MODEL_WRAPPERS.register_module()
class CPUDistributed(MMDistributedDataParallel):
    """MMEngine's wrapper of plain models, for processes on CPUs; SyncBN layers run there too.

    Args:
        module: the model.
        device_ids: the numbers of GPUs that the Runner gives to every wrapper of this kind; unused.
        kwargs: MMEngine's.
    """

    def __init__(self, module: BaseModel, device_ids: list[int] | None = None, **kwargs) -> None:
        del device_ids
        super().__init__(module=synchronise_on_cpu(module), **kwargs)

    def _passing_sync_batchnorm_handle(self, module: BaseModel) -> None:
        """Torch's check that SyncBN layers are on GPUs: here they need none."""
