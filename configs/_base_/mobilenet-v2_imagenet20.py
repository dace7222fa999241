"""MobileNetV2 on ImageNet-20 (thesis, section 4.2.2): 2,249,492 parameters, 300 MFLOPs.

    python tools/train.py configs/_base_/mobilenet-v2_imagenet20.py

Its training is printed nowhere. Chosen here: MMPretrain's for MobileNetV2 (SGD 0.045 with momentum 0.9
and weight decay 4e-5), on batches of 64 as the data set is small, with cosine decay over the 160 epochs
of the other tables.
"""

_base_ = [
    "mmpretrain::_base_/models/mobilenet_v2_1x.py",
    "mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py",
    "mmpretrain::_base_/default_runtime.py",
    "./imagenet20.py",
]
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

model = dict(head=dict(num_classes=20))
data_preprocessor = dict(num_classes=20)

train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(_base_.imagenet20_train, _delete_=True, pipeline=_base_.train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(_base_.imagenet20_val, _delete_=True, pipeline=_base_.test_pipeline),
)
test_dataloader = val_dataloader

max_epochs = 160
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=max_epochs)]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.045, momentum=0.9, weight_decay=4e-5),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))
