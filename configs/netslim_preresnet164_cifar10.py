r"""Network Slimming on PreResNet-164 and CIFAR-10 (Liu et al., ICCV 2017; thesis, Table 4.1).

    python tools/train.py configs/netslim_preresnet164_cifar10.py
    python tools/prune.py configs/netslim_preresnet164_cifar10.py \
        work_dirs/netslim_preresnet164_cifar10/epoch_160.pth --ratio 0.4 0.6
    python tools/train.py DIR/pruned.py

The scores are the scales of the batch norms, 12,112 as in the config of RARTS, with L1 on them; one
network trains on both halves at once. From Network Slimming's section 4.2: the scales start at 0.5;
they have the weights' optimiser, weight decay and all. gamma is the thesis'; that section prints 1e-5
for ResNets:

    --cfg-options optim_wrapper.penalty.gamma=1e-5
"""

_base_ = "./rarts_preresnet164_cifar10.py"

model = dict(networks=1, space=dict(type="BatchNormSpace", init=0.5))
optim_wrapper = dict(
    _delete_=True,
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=_base_.optim_wrapper.weights,
    alpha=_base_.optim_wrapper.weights,
    alternation=dict(type="Joint"),
    penalty=_base_.optim_wrapper.penalty,
)
