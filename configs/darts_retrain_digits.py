r"""A small network of derived cells on real handwritten digits, from scratch: C = 8, 5 cells.

    python tools/make_digits.py
    python tools/derive.py work_dirs/rarts_darts_digits --network configs/darts_retrain_digits.py
    python tools/train.py work_dirs/rarts_darts_digits/derived_darts_retrain_digits/retrain.py

The genotype is a place holder with two nodes a cell, as that search has. tools/derive.py fills in another,
and the head's in_channels with it: 8 C for two nodes, 16 C for four. The recipe of
darts_retrain_cifar10.py without what needs larger images, the auxiliary tower and cutout, and without
drop path: 50 epochs are few.
"""

_base_ = "./_base_/digits.py"

channels = 8
model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="rarts_mm.DARTSNetwork",
        genotype=(
            "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
            "('skip_connect', 1)], normal_concat=range(2, 4), reduce=[('max_pool_3x3', 0), "
            "('sep_conv_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0)], "
            "reduce_concat=range(2, 4))"
        ),
        channels=channels,
        layers=5,
        in_channels=1,
        auxiliary=False,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=8 * channels,
        loss=dict(type="CrossEntropyLoss"),
        topk=(1,),
        # The authors of DARTS leave it to torch.
        init_cfg=None,
    ),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=dict(max_norm=5.0),
)
max_epochs = 50
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [dict(_base_.param_scheduler[0], eta_min=0.0, end=max_epochs)]
default_hooks = dict(checkpoint=dict(interval=max_epochs))
