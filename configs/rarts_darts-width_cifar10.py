r"""Width and topology together: the width search on a network of derived cells, CIFAR-10.

    python tools/train.py configs/darts_retrain_cifar10.py
    python tools/train.py configs/rarts_darts-width_cifar10.py
    python tools/prune.py configs/rarts_darts-width_cifar10.py \
        work_dirs/rarts_darts-width_cifar10/epoch_160.pth --ratio 0.4
    python tools/train.py DIR/pruned.py

A derived network is an ordinary network. What can be scored in it are the channels between the two
halves of each separable convolution; those of other genotypes come with
--cfg-options model.architecture.backbone.genotype=... and their own load_from. The papers have no such
experiment: gamma, the length and the warm start are those of chapter 4's width searches, lambda and beta
this project's defaults. Auxiliary classifier and drop path regularise a training from scratch; search and
fine-tuning go without.
"""

_base_ = "./darts_retrain_cifar10.py"

architecture = dict(
    type="ImageClassifier",
    backbone=dict(_base_.model.backbone, auxiliary=False, drop_path_rate=0.0),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=_base_.model.head.in_channels,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
    ),
)
model = dict(_delete_=True, type="rarts_mm.SearchModel", architecture=architecture)
load_from = "work_dirs/darts_retrain_cifar10/epoch_600.pth"

max_epochs = 160
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
param_scheduler = [
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=True, begin=0, end=max_epochs)
]
train_cfg = dict(
    _delete_=True,
    type="rarts_mm.SearchLoop",
    max_epochs=max_epochs,
    val_interval=1,
    split=dict(ratio=0.5, seed=0),
)
custom_hooks = [dict(type="rarts_mm.LagrangianHook"), dict(type="rarts_mm.ScoreHook")]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")

how_to_get = {
    **_base_.how_to_get,
    load_from: "Train the derived network first: python tools/train.py configs/darts_retrain_cifar10.py",
}
