"""The search network of the NATS-Bench topology space on CIFAR-10: C = 16, N = 5.

Batch 64, SGD 0.025 with momentum 0.9 and weight decay 5e-4, cosine decay to 0.001, gradient clipping
at 5, 100 epochs (Dong et al., NATS-Bench, TPAMI 2021; IEEE Access, IV-B).
"""

_base_ = "./darts-search_cifar10.py"

model = dict(
    backbone=dict(_delete_=True, type="rarts_mm.NATSSearchNetwork", channels=16, repeats=5),
    head=dict(in_channels=64),
)
max_epochs = 100
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="CosineAnnealingLR", eta_min=1e-3, by_epoch=True, begin=0, end=max_epochs)
]
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
