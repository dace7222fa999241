"""Search models in several processes."""

from mmengine.model import BaseModel
from torch import nn

from rarts_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class SearchDistributed(nn.Module):
    """Wraps a search model for distributed training; named in ``model_wrapper_cfg``.

    Torch's DistributedDataParallel averages every gradient after every backward pass. A search takes
    several backward passes a step, each for one group of parameters, so here the optim wrapper
    averages just the gradients of the group about to step, and this wrapper only passes calls on.
    The Runner itself makes weights equal on all ranks after initialisation.
    """

    def __init__(self, module: BaseModel) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def train_step(self, data, optim_wrapper):
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data):
        return self.module.val_step(data)

    def test_step(self, data):
        return self.module.test_step(data)
