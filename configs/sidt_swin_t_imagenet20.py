r"""SiDT on Swin-T and ImageNet-20 (thesis, section 4.3.3 and Table 4.5), searched by RARTS.

    python tools/make_imagenet_subset.py data/imagenet
    python tools/train.py configs/sidt_swin_t_imagenet20.py
    # The four pruning ratios of Table 4.5, all from the one search:
    python tools/prune.py configs/sidt_swin_t_imagenet20.py \
        work_dirs/sidt_swin_t_imagenet20/epoch_160.pth --ratio 0.2 0.4 0.6 0.8
    python tools/train.py DIR/pruned.py

gamma is printed; lambda and beta are printed nowhere: 1 and 0.1 are this project's defaults.
"""

_base_ = "./_base_/swin-t_imagenet20.py"

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
)
train_cfg = dict(
    _delete_=True,
    type="rarts_mm.SearchLoop",
    max_epochs=_base_.max_epochs,
    val_interval=1,
    split=dict(ratio=0.5, seed=0),
)
custom_hooks = [dict(type="rarts_mm.LagrangianHook"), dict(type="rarts_mm.ScoreHook")]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")
