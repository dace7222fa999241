"""A small Swin on the handwritten digits of scikit-learn, 8 x 8 grey pixels, ten classes.

Patches of 2 x 2 make 4 x 4 tokens in the first stage and 2 x 2 in the second, in windows of 2 x 2. No batch statistics,
no drop path, no mixing: two trainings that see the same batches from the same weights are the same.
"""

_base_ = "./digits.py"

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
