"""A small search network of DARTS on real handwritten digits: C = 4, 3 cells of 2 nodes, 8 x 8 pixels.

SGD 0.025 with momentum 0.9 and weight decay 3e-4, cosine decay to 0.001 and gradient clipping at 5, as
on CIFAR-10.
"""

_base_ = "./digits.py"

channels, nodes = 4, 2
model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="rarts_mm.DARTSSearchNetwork",
        channels=channels,
        layers=3,
        in_channels=1,
        nodes=nodes,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        # Two reductions double the channels.
        in_channels=4 * nodes * channels,
        loss=dict(type="CrossEntropyLoss"),
        topk=(1,),
    ),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=dict(max_norm=5.0),
)
max_epochs = 15
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [dict(_base_.param_scheduler[0], eta_min=1e-3, end=max_epochs)]
default_hooks = dict(checkpoint=dict(interval=max_epochs))
