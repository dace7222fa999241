"""A network of derived cells on CIFAR-100, from scratch: the recipe of CIFAR-10.

python tools/train.py configs/darts_retrain_cifar100.py
"""

_base_ = "./darts_retrain_cifar10.py"

model = dict(head=dict(num_classes=100))
# Means and deviations of the training images, as in MMPretrain's config of this data set.
data_preprocessor = dict(
    num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]
)
train_pipeline = [
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="Cutout", shape=16, pad_val=(129, 124, 112), prob=1.0),
    dict(type="PackInputs"),
]
cifar = dict(type="CIFAR100", data_root="data/cifar100")
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **cifar))
val_dataloader = dict(dataset=cifar)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator

how_to_get = {
    "data/cifar100": (
        "Download and unpack CIFAR-100 (161 MB): mkdir -p data/cifar100 && "
        "curl -L https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz | tar xz -C data/cifar100"
    ),
}
