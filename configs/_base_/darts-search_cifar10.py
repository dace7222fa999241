"""The DARTS search network on CIFAR-10: C = 16, 8 cells, 1,930,618 weights, 300 MFLOPs at 32 x 32.

Batch 64, SGD 0.025 with momentum 0.9 and weight decay 3e-4, cosine decay to 0.001, gradient clipping
at 5, 50 epochs (Liu et al., ICLR 2019, appendix A.1).
"""

_base_ = [
    "mmpretrain::_base_/datasets/cifar10_bs16.py",
    "mmpretrain::_base_/default_runtime.py",
]
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

model = dict(
    type="ImageClassifier",
    backbone=dict(type="rarts_mm.DARTSSearchNetwork", channels=16, layers=8),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=256,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
    ),
)

cifar = dict(data_root="data/cifar10", download=False)
train_dataloader = dict(
    batch_size=64, num_workers=4, persistent_workers=True, dataset=dict(**cifar)
)
val_dataloader = dict(batch_size=256, num_workers=4, persistent_workers=True, dataset=dict(**cifar))
test_dataloader = val_dataloader

max_epochs = 50
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(type="CosineAnnealingLR", eta_min=1e-3, by_epoch=True, begin=0, end=max_epochs)
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))

how_to_get = {
    "data/cifar10": (
        "Download and unpack CIFAR-10 (163 MB): mkdir -p data/cifar10 && "
        "curl -L https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz | tar xz -C data/cifar10"
    ),
}
