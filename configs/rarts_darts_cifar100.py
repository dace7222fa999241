"""Topology search in the DARTS space on CIFAR-100 by RARTS: the settings of CIFAR-10.

python tools/train.py configs/rarts_darts_cifar100.py
python tools/derive.py work_dirs/rarts_darts_cifar100 --network cifar
python tools/train.py work_dirs/rarts_darts_cifar100/derived_cifar/retrain.py
"""

_base_ = "./rarts_darts_cifar10.py"

model = dict(architecture=dict(head=dict(num_classes=100)))
# Means and deviations of the training images, as in MMPretrain's config of this data set.
data_preprocessor = dict(
    num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]
)
cifar = dict(type="CIFAR100", data_root="data/cifar100")
train_dataloader = dict(dataset=cifar)
val_dataloader = dict(dataset=cifar)
test_dataloader = val_dataloader

how_to_get = dict(
    _delete_=True,
    **{
        "data/cifar100": (
            "Download and unpack CIFAR-100 (161 MB): mkdir -p data/cifar100 && "
            "curl -L https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz | tar xz -C data/cifar100"
        ),
    },
)
