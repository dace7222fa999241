"""A small Swin on the handwritten digits of scikit-learn, 8 x 8 grey pixels, ten classes.

Patches of 2 x 2 make 4 x 4 tokens in the first stage and 2 x 2 in the second, in windows of 2 x 2. No batch statistics,
no drop path, no mixing: two trainings that see the same batches from the same weights are the same.
"""

default_scope = "mmpretrain"
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

embed_dims = 16
model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="SwinTransformer",
        arch=dict(embed_dims=embed_dims, depths=[1, 1], num_heads=[2, 4]),
        img_size=8,
        in_channels=1,
        patch_size=2,
        window_size=2,
        out_indices=(1,),
        drop_path_rate=0.0,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=2 * embed_dims,
        loss=dict(type="CrossEntropyLoss"),
        topk=(1,),
    ),
)
data_preprocessor = dict(num_classes=10, mean=[78.0], std=[96.0], to_rgb=False)

# The images are of this size; the FLOPs are counted for what Resize says.
pipeline = [
    dict(type="LoadImageFromFile", color_type="grayscale"),
    dict(type="Resize", scale=(8, 8)),
    dict(type="PackInputs"),
]

data_root = "data/digits"
# To serialise so few images takes longer than to read them.
digits = dict(type="CustomDataset", data_root=data_root, pipeline=pipeline, serialize_data=False)
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(digits, data_prefix="train"),
)
val_dataloader = dict(
    batch_size=257,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(digits, data_prefix="val"),
)
test_dataloader = dict(
    batch_size=270,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(digits, data_prefix="test"),
)
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = val_evaluator

max_epochs = 30
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=3e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        eta_min=3e-5,
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=max_epochs,
    )
]
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", interval=max_epochs, max_keep_ckpts=2),
    logger=dict(type="LoggerHook", interval=20),
)
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=50, enable=False)
how_to_get = {"data/digits": "the handwritten digits: python tools/make_digits.py"}
