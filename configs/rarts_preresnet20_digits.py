"""Width search on a small PreResNet and real handwritten digits, by RARTS.

    python tools/make_digits.py
    python tools/compress.py configs/rarts_preresnet20_digits.py --flops 0.6 0.4

The same units and places as rarts_preresnet164_cifar10.py; studies/compare_pruners.py runs it against the
baselines.
"""

_base_ = "./_base_/preresnet20_digits.py"

model = dict(_delete_=True, type="rarts_mm.SearchModel", architecture=_base_.model)
optim_wrapper = dict(
    _delete_=True,
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=_base_.optim_wrapper,
    alternation=dict(type="RARTS"),
    lam=1.0,
    beta=0.1,
    penalty=dict(type="L1Penalty", gamma=1e-4),
)
train_cfg = dict(
    _delete_=True,
    type="rarts_mm.SearchLoop",
    max_epochs=_base_.max_epochs,
    val_interval=_base_.max_epochs,
    split=dict(ratio=0.5, seed=0),
)
custom_hooks = [
    dict(type="rarts_mm.LagrangianHook"),
    # A picture takes longer than an epoch.
    dict(type="rarts_mm.ScoreHook", interval=_base_.max_epochs),
]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")

# Fine-tuning of the pruned model: a third as long, with the settings of the search.
finetune_epochs = 10
finetune = dict(
    train_cfg=dict(
        type="EpochBasedTrainLoop", max_epochs=finetune_epochs, val_interval=finetune_epochs
    ),
    param_scheduler=[dict(_base_.param_scheduler[0], end=finetune_epochs)],
    default_hooks=dict(
        _base_.default_hooks,
        checkpoint=dict(type="CheckpointHook", interval=finetune_epochs, max_keep_ckpts=1),
    ),
)
