"""Topology search in the NATS-Bench space on CIFAR-100 by RARTS (IEEE Access, IV-B and Table 4).

    python tools/train.py configs/rarts_nats_cifar100.py

As on CIFAR-10. Both halves are of the training set: the benchmark's own search code on CIFAR-100 takes
the half for alpha from the test images, which then measure nothing any more.
"""

_base_ = "./rarts_nats_cifar10.py"

model = dict(architecture=dict(head=dict(num_classes=100)))
# Means and deviations of the training images, as in MMPretrain's config of this data set.
data_preprocessor = dict(
    num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]
)
cifar = dict(type="CIFAR100", data_root="data/cifar100")
train_dataloader = dict(dataset=cifar)
val_dataloader = dict(dataset=cifar)
test_dataloader = val_dataloader
custom_hooks = [
    *_base_.custom_hooks[:-1],
    dict(type="rarts_mm.NATSLookUpHook", dataset="cifar100"),
]

how_to_get = dict(
    _delete_=True,
    **{
        "data/cifar100": (
            "Download and unpack CIFAR-100 (161 MB): mkdir -p data/cifar100 && "
            "curl -L https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz | tar xz -C data/cifar100"
        ),
    },
)
