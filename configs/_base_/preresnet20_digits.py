"""A small PreResNet on the handwritten digits.

    python tools/make_digits.py
    python tools/train.py configs/_base_/preresnet20_digits.py

Two blocks in each stage, on 8 x 8, 4 x 4 and 2 x 2 pixels, with half the channels of PreResNet-164.
"""

_base_ = "./digits.py"

base_channels = 8
model = dict(
    type="ImageClassifier",
    backbone=dict(type="rarts_mm.PreResNet", depth=20, base_channels=base_channels, in_channels=1),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=16 * base_channels,
        loss=dict(type="CrossEntropyLoss"),
        topk=(1,),
    ),
)
