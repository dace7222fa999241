r"""A network of derived cells on CIFAR-10, from scratch (Liu et al., ICLR 2019, section 3.2).

    python tools/train.py configs/darts_retrain_cifar10.py
    # Other cells: a published name, or what tools/derive.py has written.
    python tools/train.py configs/darts_retrain_cifar10.py \
        --cfg-options model.backbone.genotype=DARTS_V1

C = 36, 20 cells: 3,349,342 parameters of DARTS_V2 without the auxiliary tower and its classifier
(476,426), which are for training only. 600 epochs on the whole training set, batch 96, SGD 0.025 with
momentum 0.9, weight decay 3e-4 and cosine decay to 0, gradient clipping at 5, cutout 16, auxiliary loss
0.4, drop path up to 0.2.
"""

_base_ = [
    "mmpretrain::_base_/datasets/cifar10_bs16.py",
    "mmpretrain::_base_/default_runtime.py",
]
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="rarts_mm.DARTSNetwork",
        genotype="DARTS_V2",
        channels=36,
        layers=20,
        drop_path_rate=0.2,
        auxiliary=True,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="rarts_mm.AuxiliaryClsHead",
        num_classes=10,
        in_channels=576,
        auxiliary_weight=0.4,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
        # The authors leave it to torch.
        init_cfg=None,
    ),
)

# Means and deviations of the training images, in red, green, blue.
data_preprocessor = dict(mean=[125.307, 122.950, 113.865], std=[62.993, 62.089, 66.705])
# A hole of the mean colour is one of zeros behind the normalisation.
train_pipeline = [
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="Cutout", shape=16, pad_val=(125, 123, 114), prob=1.0),
    dict(type="PackInputs"),
]
# The images are of this size; the FLOPs are counted for what Resize says.
test_pipeline = [dict(type="Resize", scale=(32, 32)), dict(type="PackInputs")]
cifar = dict(data_root="data/cifar10", download=False)
train_dataloader = dict(
    batch_size=96,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(pipeline=train_pipeline, **cifar),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(pipeline=test_pipeline, **cifar),
)
test_dataloader = val_dataloader

max_epochs = 600
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=True, begin=0, end=max_epochs)
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=dict(max_norm=5.0),
)
custom_hooks = [dict(type="rarts_mm.DropPathScheduleHook")]
auto_scale_lr = dict(enable=False, base_batch_size=96)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))

how_to_get = {
    "data/cifar10": (
        "Download and unpack CIFAR-10 (163 MB): mkdir -p data/cifar10 && "
        "curl -L https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz | tar xz -C data/cifar10"
    ),
}
