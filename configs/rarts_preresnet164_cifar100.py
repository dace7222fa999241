r"""Width search on PreResNet-164 and CIFAR-100 by RARTS (thesis, section 4.2.2 and Table 4.1).

    python tools/train.py configs/rarts_preresnet164_cifar100.py
    # Both pruning ratios of Table 4.1, from the one search:
    python tools/prune.py configs/rarts_preresnet164_cifar100.py \
        work_dirs/rarts_preresnet164_cifar100/epoch_160.pth --ratio 0.4 0.6
    python tools/train.py DIR/pruned.py

The ratio is a share of the 12,112 channels that Network Slimming counts: what each batch norm of the
blocks hands on, and the last one of the network. gamma is printed; lambda and beta are printed
nowhere: 1 and 0.1 are this project's defaults. Fine-tuning has the settings of the search, as
printed. docs/configs.md has the other rows of the table.
"""

_base_ = "./_base_/preresnet164_cifar100.py"

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
    val_interval=1,
    split=dict(ratio=0.5, seed=0),
)
custom_hooks = [dict(type="rarts_mm.LagrangianHook"), dict(type="rarts_mm.ScoreHook")]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")
