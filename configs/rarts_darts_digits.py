r"""Topology search in a small DARTS space on real handwritten digits, by RARTS.

    python tools/make_digits.py
    python tools/train.py configs/rarts_darts_digits.py
    python tools/derive.py work_dirs/rarts_darts_digits --network configs/darts_retrain_digits.py
    python tools/train.py work_dirs/rarts_darts_digits/derived_darts_retrain_digits/retrain.py

`make demo-cells` runs these commands; studies/compare_topologies.py compares the alternations on it.
150 steps are few: alpha moves faster than in rarts_darts_cifar10.py, whose search takes 19,550.
"""

_base_ = "./_base_/darts-search_digits.py"

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
        optimizer=dict(type="Adam", lr=1e-2, betas=(0.5, 0.999), weight_decay=1e-3),
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
custom_hooks = [
    dict(type="rarts_mm.LagrangianHook"),
    # A picture takes longer than an epoch.
    dict(type="rarts_mm.ScoreHook", interval=_base_.max_epochs),
    dict(type="rarts_mm.GenotypeHook", metric="accuracy/top1"),
]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")
