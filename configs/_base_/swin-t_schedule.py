"""Training of Swin-T classifiers (thesis, section 4.3.3), after MMPretrain's recipe for Swin.

Printed: batch 256 (the configs' data loaders), learning rate 2.5e-4, momentum 0.9, weight decay 0.05,
160 epochs. Not printed, chosen here: AdamW (the momentum is its beta1) and, from MMPretrain's recipe,
cosine decay with a warm-up, and gradient clipping.
"""

_base_ = "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py"

max_epochs = 160
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(type="CosineAnnealingLR", eta_min=2.5e-6, by_epoch=True, begin=10, end=max_epochs),
]
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
