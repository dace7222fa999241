# SiDT by RARTS, small: the search of sidt_swin_t_coco.py on generated images, for two cores.
# The whole chain: python tools/compress.py configs/sidt_swin_micro_shapes.py --ratio 0.4
_base_ = "./_base_/cascade-mask-rcnn_swin-micro_shapes.py"

model = dict(_delete_=True, type="rarts_mm.SearchModel", architecture=_base_.model)
optim_wrapper = dict(
    _delete_=True,
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=_base_.optim_wrapper,
    alternation=dict(type="RARTS"),
    lam=1.0,
    beta=0.1,
    penalty=dict(type="L1Penalty", gamma=1e-4),
    # Fifty steps: at the weights' rate the scores would hardly leave 1.
    alpha=dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=2e-2, betas=(0.9, 0.999), weight_decay=0.0),
    ),
)
search_epochs = 2
train_cfg = dict(
    _delete_=True,
    type="rarts_mm.SearchLoop",
    max_epochs=search_epochs,
    val_interval=search_epochs,
    split=dict(ratio=0.5, seed=0),
)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        eta_min=2e-5,
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=search_epochs,
    )
]
custom_hooks = [dict(type="rarts_mm.LagrangianHook"), dict(type="rarts_mm.ScoreHook")]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")

# Schedules of the steps before and after the search.
baseline = dict(train_cfg=_base_.train_cfg, param_scheduler=_base_.param_scheduler)
finetune_epochs = 3
finetune = dict(
    train_cfg=dict(
        type="EpochBasedTrainLoop", max_epochs=finetune_epochs, val_interval=finetune_epochs
    ),
    param_scheduler=[
        dict(
            type="CosineAnnealingLR",
            eta_min=2e-5,
            by_epoch=True,
            convert_to_iter_based=True,
            begin=0,
            end=finetune_epochs,
        )
    ],
)
