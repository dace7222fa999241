r"""Width search on MobileNetV2 and ImageNet-20 with an unfixed ratio (thesis, Table 4.2), by RARTS.

    python tools/make_imagenet_subset.py data/imagenet
    python tools/train.py configs/rarts_mobilenet-v2_imagenet20.py
    # What the search has made exactly zero goes:
    python tools/prune.py configs/rarts_mobilenet-v2_imagenet20.py \
        work_dirs/rarts_mobilenet-v2_imagenet20/epoch_160.pth --ratio auto
    python tools/train.py DIR/pruned.py

There is one score for each of the 7,104 hidden channels of the inverted residuals. Printed are the L1
norm, "strong", and the ratio that came out, 71.2 % of the channels; not gamma. Here the proximal step
makes the zeros exact, and gamma, 2e-3, takes a score that the losses leave alone to zero in 40 % of
the search. The log shows the share as score/exact_zeros: more gamma, more zeros. lambda and beta
are this project's defaults, as in all configs.

DARTS of either order, in which alpha sees one loss instead of two, so that half of gamma weighs as much:

    python tools/train.py configs/rarts_mobilenet-v2_imagenet20.py --work-dir work_dirs/darts1_mobilenet-v2 \
        --cfg-options model.networks=1 optim_wrapper.alternation.type=DARTS1 \
        optim_wrapper.penalty.gamma=1e-3
"""

_base_ = "./_base_/mobilenet-v2_imagenet20.py"

model = dict(_delete_=True, type="rarts_mm.SearchModel", architecture=_base_.model)
optim_wrapper = dict(
    _delete_=True,
    type="rarts_mm.RARTSOptimWrapper",
    constructor="rarts_mm.RARTSOptimWrapperConstructor",
    weights=_base_.optim_wrapper,
    alternation=dict(type="RARTS"),
    lam=1.0,
    beta=0.1,
    penalty=dict(type="ProximalL1", gamma=2e-3),
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
