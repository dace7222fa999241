r"""A network of derived cells on ImageNet, from scratch (Liu et al., ICLR 2019, section 3.3).

    python tools/train.py configs/darts_retrain_imagenet.py
    python tools/train.py configs/darts_retrain_imagenet.py \
        --cfg-options model.backbone.genotype=DARTS_V1

C = 48, 14 cells on 28 x 28 pixels and less: 4,718,752 parameters of DARTS_V2 without the auxiliary tower
and its classifier (1,260,776), which are for training only. 250 epochs, batch 128, SGD 0.1 times 0.97 in
each epoch, weight decay 3e-5, label smoothing 0.1, auxiliary loss 0.4, no drop path. Not in the paper but
in its authors' code: momentum 0.9, gradient clipping at 5, and the jitter of the colours.
"""

_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py",
    "mmpretrain::_base_/default_runtime.py",
]
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="rarts_mm.DARTSNetwork",
        genotype="DARTS_V2",
        channels=48,
        layers=14,
        stem="imagenet",
        drop_path_rate=0.0,
        auxiliary=True,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="rarts_mm.AuxiliaryClsHead",
        num_classes=1000,
        in_channels=768,
        auxiliary_weight=0.4,
        topk=(1, 5),
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
        # The authors leave it to torch.
        init_cfg=None,
    ),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, backend="pillow"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(data_root="data/imagenet", data_prefix="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(data_root="data/imagenet", data_prefix="val"),
)
test_dataloader = val_dataloader

max_epochs = 250
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [dict(type="ExponentialLR", gamma=0.97, by_epoch=True, begin=0, end=max_epochs)]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=3e-5),
    clip_grad=dict(max_norm=5.0),
)
# The rate is 0, unless another one is asked for.
custom_hooks = [dict(type="rarts_mm.DropPathScheduleHook")]
auto_scale_lr = dict(enable=False, base_batch_size=128)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))

how_to_get = dict.fromkeys(
    ("data/imagenet/train", "data/imagenet/val"),
    "Get the training and validation images of ILSVRC 2012 from https://image-net.org (an account is "
    "needed) and unpack them as data/imagenet/train/<class>/*.JPEG and data/imagenet/val/<class>/*.JPEG, "
    "or link the folder that you have: ln -s /path/to/imagenet data/imagenet",
)
