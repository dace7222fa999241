r"""SiDT on the backbone of Cascade Mask R-CNN with Swin-T, COCO (thesis, Table 4.6).

    bash tools/dist_train.sh configs/sidt_swin_t_coco.py 8
    # The two pruning ratios of Table 4.6, both from the one search:
    python tools/prune.py configs/sidt_swin_t_coco.py \
        work_dirs/sidt_swin_t_coco/epoch_36.pth --ratio 0.2 0.4
    bash tools/dist_train.sh DIR/pruned.py 8

The search is RARTS. Its schedule is the detector's own (AdamW 1e-4, weight decay 0.05, 36 epochs,
steps 27 and 33, batch 16 = 8 x 2 for each of the two networks); gamma is the thesis'. lambda and
beta are printed nowhere: 1 and 0.1 are this project's defaults. docs/coco.md is the guide.
"""

_base_ = "./_base_/cascade-mask-rcnn_swin-t_4conv1f_coco.py"

# Both networks start from the published detector, so the backbone needs no ImageNet weights first.
load_from = "checkpoints/cascade_mask_rcnn_swin_tiny_patch4_window7.pth"
_base_.model.backbone.init_cfg = None

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
custom_hooks = [
    dict(type="rarts_mm.SwinReleaseHook"),
    dict(type="rarts_mm.LagrangianHook"),
    dict(type="rarts_mm.ScoreHook"),
]
model_wrapper_cfg = dict(type="rarts_mm.SearchDistributed")

how_to_get = {
    load_from: (
        "Download the published detector: mkdir -p checkpoints && curl -L -o "
        f"{load_from} https://github.com/SwinTransformer/storage/releases/download/v1.0.2/"
        "cascade_mask_rcnn_swin_tiny_patch4_window7.pth"
    ),
}
