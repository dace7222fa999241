"""PreResNet-164 on CIFAR-10 (thesis, section 4.2.2): 1,703,258 parameters, 2.48e8 FLOPs.

    python tools/train.py configs/_base_/preresnet164_cifar10.py

Printed there, as the settings of Network Slimming: learning rate 0.1, weight decay 1e-4, 160 epochs.
From Network Slimming's own section 4.2 (Liu et al., ICCV 2017): batch 64, Nesterov momentum 0.9, a
tenth of the rate after half and after three quarters of the epochs, crops and flips.
"""

_base_ = [
    "mmpretrain::_base_/datasets/cifar10_bs16.py",
    "mmpretrain::_base_/default_runtime.py",
]
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

model = dict(
    type="ImageClassifier",
    backbone=dict(type="rarts_mm.PreResNet", depth=164),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=256,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
    ),
)

# The images are of this size; the FLOPs are counted for what Resize says.
test_pipeline = [dict(type="Resize", scale=(32, 32)), dict(type="PackInputs")]
cifar = dict(data_root="data/cifar10", download=False)
train_dataloader = dict(
    batch_size=64, num_workers=4, persistent_workers=True, dataset=dict(**cifar)
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(pipeline=test_pipeline, **cifar),
)
test_dataloader = val_dataloader

max_epochs = 160
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(
        type="MultiStepLR",
        by_epoch=True,
        milestones=[max_epochs // 2, max_epochs * 3 // 4],
        gamma=0.1,
    )
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))

how_to_get = {
    "data/cifar10": (
        "Download and unpack CIFAR-10 (163 MB): mkdir -p data/cifar10 && "
        "curl -L https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz | tar xz -C data/cifar10"
    ),
}
