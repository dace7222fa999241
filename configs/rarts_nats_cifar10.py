"""Topology search in the NATS-Bench space on CIFAR-10 by RARTS (IEEE Access, IV-B and Table 4).

    python tools/train.py configs/rarts_nats_cifar10.py

Alpha: Adam 3e-4, betas (0.5, 0.999), weight decay 1e-3. lambda and beta are printed nowhere: 1 and 0.1
are this project's defaults. At the end the log and nats.json in the work dir have the architecture's
string, its share of skip connections, and the accuracy that NATS-Bench has measured, if its package and
its files are there (docs/nats-bench.md).
"""

_base_ = "./_base_/nats-search_cifar10.py"

model = dict(
    _delete_=True,
    type="rarts_mm.SearchModel",
    architecture=_base_.model,
    space=dict(type="NATSSpace"),
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
default_hooks = dict(checkpoint=dict(save_best="accuracy/top1", rule="greater"))
custom_hooks = [
    dict(type="rarts_mm.LagrangianHook"),
    dict(type="rarts_mm.ScoreHook"),
    dict(type="rarts_mm.GenotypeHook", metric="accuracy/top1"),
    dict(type="rarts_mm.NATSLookUpHook", dataset="cifar10"),
]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")
