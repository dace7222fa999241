"""Swin-T on CIFAR-100 at 224 x 224 (thesis, section 4.3.3): 27,596,254 parameters, 4.49 GFLOPs.

What of its training is printed there is in swin-t_schedule.py. Not printed, chosen here: from
MMPretrain's Swin recipe, label smoothing, mixup and CutMix, RandAugment.
"""

_base_ = [
    "mmpretrain::_base_/models/swin_transformer/tiny_224.py",
    "mmpretrain::_base_/datasets/cifar100_bs16.py",
    "mmpretrain::_base_/default_runtime.py",
    "./swin-t_schedule.py",
]
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

model = dict(head=dict(num_classes=100))

# Augmented at the images' own 32 x 32, then enlarged: the same pictures for a fraction of the work.
enlarge = dict(type="Resize", scale=(224, 224), backend="pillow", interpolation="bicubic")
train_pipeline = [
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(
        type="RandAugment",
        policies="timm_increasing",
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[129, 124, 112], interpolation="bicubic"),
    ),
    enlarge,
    dict(type="PackInputs"),
]
test_pipeline = [enlarge, dict(type="PackInputs")]

cifar = dict(data_root="data/cifar100", download=False)
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(pipeline=train_pipeline, **cifar),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(pipeline=test_pipeline, **cifar),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))

how_to_get = {
    "data/cifar100": (
        "Download and unpack CIFAR-100 (161 MB): mkdir -p data/cifar100 && "
        "curl -L https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz | tar xz -C data/cifar100"
    ),
}
