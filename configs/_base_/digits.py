"""The handwritten digits of scikit-learn, 8 x 8 grey pixels, ten classes, and a training on them.

    python tools/make_digits.py

Nothing is drawn but the order of the images: no crops, no flips, no mixing.
"""

default_scope = "mmpretrain"
custom_imports = dict(imports=["rarts_mm"], allow_failed_imports=False)

data_preprocessor = dict(num_classes=10, mean=[78.0], std=[96.0], to_rgb=False)

# The FLOPs are counted for the size that Resize says, the images' own.
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
