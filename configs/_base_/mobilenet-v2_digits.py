"""MMPretrain's MobileNetV2 on the handwritten digits, at a tenth of its width.

    python tools/make_digits.py
    python tools/train.py configs/_base_/mobilenet-v2_digits.py

Its strides divide by 32, so the images are enlarged from 8 x 8 to 32 x 32; its first layer reads three
channels, so grey is given as three equal ones.
"""

_base_ = "./digits.py"

model = dict(
    type="ImageClassifier",
    backbone=dict(type="MobileNetV2", widen_factor=0.1),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=1280,
        loss=dict(type="CrossEntropyLoss"),
        topk=(1,),
    ),
)
data_preprocessor = dict(mean=[78.0] * 3, std=[96.0] * 3)

pipeline = [
    dict(type="LoadImageFromFile", color_type="color"),
    dict(type="Resize", scale=(32, 32)),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
