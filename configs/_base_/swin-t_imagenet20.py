"""Swin-T on ImageNet-20 (thesis, section 4.3.3): 27,534,734 parameters, 4.49 GFLOPs.

    python tools/train.py configs/_base_/swin-t_imagenet20.py

Trained as on CIFAR-100 (swin-t_schedule.py), from scratch; the thesis prints nothing else. The images'
preparation, label smoothing, mixup and CutMix are MMPretrain's for Swin.
"""

_base_ = [
    "mmpretrain::_base_/models/swin_transformer/tiny_224.py",
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/default_runtime.py",
    "./imagenet20.py",
    "./swin-t_schedule.py",
]
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

model = dict(head=dict(num_classes=20))
data_preprocessor = dict(num_classes=20)

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(_base_.imagenet20_train, _delete_=True, pipeline=_base_.train_pipeline),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(_base_.imagenet20_val, _delete_=True, pipeline=_base_.test_pipeline),
)
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))
