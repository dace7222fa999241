"""Topology search in the DARTS space on CIFAR-10 by RARTS (thesis, section 3; IEEE Access, IV-A).

    python tools/train.py configs/rarts_darts_cifar10.py

Alpha: Adam 3e-4, betas (0.5, 0.999), weight decay 1e-3, as in DARTS. lambda and beta are printed
nowhere: 1 and 0.1 are this project's defaults (at this learning rate and momentum the coupling is
stable for beta < 8). The other searches of the papers' comparison need no second network:

    python tools/train.py configs/rarts_darts_cifar10.py --cfg-options model.networks=1 \\
        optim_wrapper.alternation.type=DARTS1
"""

_base_ = "./_base_/darts-search_cifar10.py"

model = dict(
    _delete_=True,
    type="rarts_mm.SearchModel",
    architecture=_base_.model,
    space=dict(type="CellSpace"),
)
optim_wrapper = dict(
    _delete_=True,
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=_base_.optim_wrapper,
    alternation=dict(type="RARTS"),
    lam=1.0,
    beta=0.1,
    alpha=dict(
        type="OptimWrapper",
        optimizer=dict(type="Adam", lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
    ),
)
# Alpha's learning rate stays.
param_scheduler = dict(
    _delete_=True, auxiliary=_base_.param_scheduler, primary=_base_.param_scheduler, alpha=[]
)
train_cfg = dict(
    _delete_=True,
    type="rarts_mm.SearchLoop",
    max_epochs=_base_.max_epochs,
    val_interval=5,
    split=dict(ratio=0.5, seed=0),
)
# The epoch that validates best keeps its checkpoint too: tools/derive.py --checkpoint best.
default_hooks = dict(checkpoint=dict(save_best="accuracy/top1", rule="greater"))
custom_hooks = [
    dict(type="rarts_mm.LagrangianHook"),
    dict(type="rarts_mm.ScoreHook"),
    dict(type="rarts_mm.GenotypeHook", metric="accuracy/top1"),
]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")
