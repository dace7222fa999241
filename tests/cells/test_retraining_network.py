"""Networks of derived cells: sizes, computation, auxiliary classifier, drop path, bad input."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain import get_model
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional

from rarts_mm.cells.genotype import Genotype
from rarts_mm.cells.retraining import AuxiliaryTower, Cell, DARTSNetwork, Edge
from rarts_mm.registry import MODELS

# A genotype with every operation, a node of one input twice, nodes that are not in the output.
MIXED = Genotype(
    normal=(
        *(("sep_conv_3x3", 1), ("skip_connect", 0)),
        *(("dil_conv_5x5", 2), ("avg_pool_3x3", 2)),
        *(("max_pool_3x3", 0), ("sep_conv_5x5", 3)),
    ),
    normal_concat=(4, 2),
    reduce=(
        *(("skip_connect", 0), ("dil_conv_3x3", 1)),
        *(("max_pool_3x3", 1), ("sep_conv_3x3", 2)),
    ),
    reduce_concat=(2, 3),
)
SMALL = dict(channels=4, layers=3)
IMAGENET = dict(channels=48, layers=14, stem="imagenet")


def classifier(genotype="DARTS_V2", classes=10, auxiliary=True, **backbone) -> dict:
    kind = dict(type="rarts_mm.DARTSNetwork", genotype=genotype, auxiliary=auxiliary, **backbone)
    with torch.device("meta"):
        width = DARTSNetwork(**{k: v for k, v in kind.items() if k != "type"}).out_channels
    return dict(
        type="ImageClassifier",
        backbone=kind,
        neck=dict(type="GlobalAveragePooling"),
        head=dict(
            type="rarts_mm.AuxiliaryClsHead" if auxiliary else "LinearClsHead",
            num_classes=classes,
            in_channels=width,
            loss=dict(type="CrossEntropyLoss"),
        ),
    )


def build(kind: dict) -> nn.Module:
    init_default_scope("mmpretrain")
    return MODELS.build(copy.deepcopy(kind))


def numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Published are the counts without the auxiliary classifier, which has: 1 x 1 convolution, norm, 2 x 2 convolution, norm (CIFAR only), linear layer.
CIFAR_TOWER = 576 * 128 + 2 * 128 + 128 * 768 * 4 + 2 * 768 + 769 * 10
IMAGENET_TOWER = 768 * 128 + 2 * 128 + 128 * 768 * 4 + 769 * 1000


@pytest.mark.parametrize(
    ("genotype", "settings", "classes", "count", "tower"),
    [
        ("DARTS_V1", {}, 10, 3_169_414, CIFAR_TOWER),
        ("DARTS_V2", {}, 10, 3_349_342, CIFAR_TOWER),
        ("DARTS_V1", IMAGENET, 1000, 4_510_432, IMAGENET_TOWER),
        ("DARTS_V2", IMAGENET, 1000, 4_718_752, IMAGENET_TOWER),
    ],
)
def test_parameters_are_the_published_ones(genotype, settings, classes, count, tower):
    with torch.device("meta"):
        plain = build(classifier(genotype, classes, auxiliary=False, **settings))
        whole = build(classifier(genotype, classes, **settings))
    assert numel(plain) == count
    assert numel(whole) == count + tower
    assert tower == {10: 476_426, 1000: 1_260_776}[classes]


def test_sizes_of_the_maps():
    torch.manual_seed(0)
    for settings, sizes in (
        (dict(layers=5), {(32, 32): (8, 8), (31, 33): (8, 9), (3, 5): (1, 2)}),
        (dict(layers=5, stem="imagenet"), {(64, 224): (2, 7), (65, 33): (3, 2)}),
    ):
        network = DARTSNetwork("DARTS_V2", channels=4, **settings).eval()
        for size, out in sizes.items():
            (features,) = network(torch.randn(1, 3, *size))
            assert features.shape == (1, network.out_channels, *out)
    assert network.out_channels == 4 * 4 * 4


def test_genotypes_are_taken_in_every_form():
    forms = [MIXED, MIXED.text(), MIXED.to_dict(), Config(dict(g=MIXED.to_dict())).g]
    networks = [DARTSNetwork(form, **SMALL) for form in forms]
    assert {network.genotype for network in networks} == {MIXED}
    names = [[*network.state_dict()] for network in networks]
    assert all(found == names[0] for found in names)


def test_a_cell_is_the_sum_of_its_edges():
    """A normal and a reduction cell, written out node by node."""
    torch.manual_seed(0)
    before, last = (torch.randn(2, c, 6, 6, dtype=torch.float64) for c in (5, 7))
    cell = Cell(MIXED, 5, 7, 4, reduces=False, last_reduced=False).double().train()
    e = [edge.operation for edge in cell.edges]
    s0, s1 = cell.fit_before(before), cell.fit_last(last)
    s2 = e[0](s1) + s0
    s3 = e[2](s2) + functional.avg_pool2d(s2, 3, 1, 1, count_include_pad=False)
    s4 = functional.max_pool2d(s0, 3, 1, 1) + e[5](s3)
    torch.testing.assert_close(cell(before, last), torch.cat([s4, s2], 1))
    assert cell.out_channels == 8

    before = torch.randn(2, 5, 12, 12, dtype=torch.float64)
    cell = Cell(MIXED, 5, 7, 4, reduces=True, last_reduced=True).double().train()
    e = [edge.operation for edge in cell.edges]
    s0, s1 = cell.fit_before(before), cell.fit_last(last)
    assert s0.shape == s1.shape
    s2 = e[0](s0) + e[1](s1)
    s3 = functional.max_pool2d(s1, 3, 2, 1) + e[3](s2)
    torch.testing.assert_close(cell(before, last), torch.cat([s2, s3], 1))
    assert s3.shape[-2:] == (3, 3)


def test_the_tower_is_the_authors():
    torch.manual_seed(0)
    for stride, side, norms in ((3, 8, 2), (2, 7, 1)):
        tower = AuxiliaryTower(6, stride, last_norm=norms == 2).double().train()
        convolutions = [m.weight for m in tower if isinstance(m, nn.Conv2d)]
        x = torch.randn(3, 6, side, side, dtype=torch.float64)
        y = functional.avg_pool2d(x.relu(), 5, stride)
        y = functional.conv2d(y, convolutions[0])
        y = functional.batch_norm(y, None, None, training=True).relu()
        y = functional.conv2d(y, convolutions[1])
        if norms == 2:
            y = functional.batch_norm(y, None, None, training=True)
        torch.testing.assert_close(tower(x), y.relu())
        assert y.shape == (3, 768, 1, 1)


def samples(labels) -> list[DataSample]:
    return [DataSample().set_gt_label(label) for label in labels]


def test_the_auxiliary_classifier_is_there_in_training_alone():
    torch.manual_seed(0)
    model = build(classifier(MIXED, **SMALL)).double()
    images, labels = torch.randn(3, 3, 32, 32, dtype=torch.float64), samples([1, 0, 9])
    model.train()
    losses = model.loss(images, labels)
    auxiliary, final = model.extract_feat(images)
    truth = torch.tensor([1, 0, 9])
    torch.testing.assert_close(
        losses["loss"], functional.cross_entropy(model.head.fc(final), truth)
    )
    torch.testing.assert_close(
        losses["loss_auxiliary_head"],
        0.4 * functional.cross_entropy(model.head.fc_auxiliary(auxiliary), truth),
    )
    assert set(losses) == {"loss", "loss_auxiliary_head"}
    sum(losses.values()).backward()
    # As DistributedDataParallel wants it.
    assert all(p.grad is not None for p in model.parameters())

    model.eval()
    calls = []
    model.backbone.tower.register_forward_hook(lambda *_: calls.append(1))
    assert set(model.loss(images, labels)) == {"loss"}
    assert len(model.extract_feat(images)) == 1
    assert not calls


def test_the_tower_reads_the_second_reduction():
    network = DARTSNetwork("DARTS_V1", channels=4, layers=8)
    seen = {}
    network.cells[5].register_forward_hook(lambda _, __, out: seen.update(cell=out))
    network.tower.register_forward_pre_hook(lambda _, args: seen.update(tower=args[0]))
    network(torch.randn(2, 3, 32, 32))
    assert seen["tower"] is seen["cell"]
    assert seen["cell"].shape == (2, 4 * 16, 8, 8)


def test_a_checkpoint_serves_a_plain_classifier(tmp_path):
    """With ``auxiliary=False`` and MMPretrain's own head, the rest of the weights fits by name."""
    torch.manual_seed(0)
    whole = build(classifier(MIXED, **SMALL)).eval()
    kind = classifier(MIXED.text(), auxiliary=False, **SMALL)
    cfg = Config(
        dict(
            model=kind,
            default_scope="mmpretrain",
            custom_imports=dict(imports=["rarts_mm"], allow_failed_imports=False),
        )
    )
    cfg.dump(tmp_path / "plain.py")
    torch.save({"state_dict": whole.state_dict(), "meta": {}}, tmp_path / "whole.pth")
    plain = get_model(str(tmp_path / "plain.py"), pretrained=str(tmp_path / "whole.pth"))
    assert type(plain.head).__name__ == "LinearClsHead"
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain.eval()(images), whole(images))
    extra = {k for k in whole.state_dict() if k not in plain.state_dict()}
    assert all(k.startswith(("backbone.tower.", "head.fc_auxiliary.")) for k in extra)


def test_drop_path_takes_whole_samples_but_no_identities():
    torch.manual_seed(0)
    network = DARTSNetwork("DARTS_V1", **SMALL, drop_path_rate=0.25)
    identities, dropping = [], []
    for edge in network.cells.modules():
        if isinstance(edge, Edge):
            (identities if isinstance(edge.operation, nn.Identity) else dropping).append(edge)
    # Three skips in a normal cell of V1; the three in a reduction start at nodes.
    assert len(identities) == 3 + 2 * 3
    x = torch.randn(4000, 4, 2, 2)
    for edge in identities:
        assert torch.equal(edge.train()(x), x)
    edge = next(e for e in dropping if isinstance(e.operation, nn.MaxPool2d))
    out, whole = edge.train()(x), edge.operation(x)
    kept = out.flatten(1).any(1)
    torch.testing.assert_close(out[kept], whole[kept] / 0.75)
    assert kept.double().mean().item() == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 4000) ** 0.5)
    assert torch.equal(edge.eval()(x), whole)
    network.set_drop_path(0.0)
    assert torch.equal(edge.train()(x), whole)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(genotype="DARTS_V3"), "DARTS_V3"),
        (dict(stem="mnist"), r"stem 'mnist'.*'cifar', 'imagenet'"),
        (dict(layers=2), "layers=2 must be .* at least 3"),
        (dict(channels=0), "channels=0"),
        (dict(channels=4.0), "channels=4.0"),
        (dict(in_channels=0), "in_channels=0"),
        (dict(drop_path_rate=1.0), r"drop_path_rate=1.0 must be in \[0, 1\)"),
    ],
)
def test_bad_settings_are_errors(settings, words):
    with pytest.raises(ValueError, match=words):
        DARTSNetwork(**{"genotype": "DARTS_V1", **SMALL, **settings})


@pytest.mark.parametrize(
    ("stem", "training", "least"),
    [("cifar", False, 3), ("cifar", True, 29), ("imagenet", False, 17), ("imagenet", True, 193)],
)
def test_images_that_are_too_small_are_errors(stem, training, least):
    torch.manual_seed(0)
    network = DARTSNetwork("DARTS_V1", **SMALL, stem=stem).train(training)
    wide = least + 40
    network(torch.randn(2, 3, least, wide))
    for size in ((least - 1, wide), (wide, least - 1)):
        with pytest.raises(
            ValueError,
            match=f"{size[0]} x {size[1]} are too small for .*at least {least} x {least} pixels",
        ) as error:
            network(torch.randn(2, 3, *size))
        assert ("auxiliary=False" in str(error.value)) == training


def test_a_batch_of_one_that_batch_norm_cannot_take_is_an_error():
    image = torch.randn(1, 3, 32, 32)
    network = DARTSNetwork("DARTS_V1", **SMALL)
    with pytest.raises(ValueError, match=r"batch of one image of 32 x 32 .*auxiliary=False"):
        network(image)
    # The ImageNet tower has no norm on a single pixel; nor has evaluation, or a network without it.
    assert len(DARTSNetwork("DARTS_V1", **SMALL, stem="imagenet")(torch.randn(1, 3, 224, 224))) == 2
    assert len(network.eval()(image)) == 1
    without = DARTSNetwork("DARTS_V1", channels=4, layers=4, auxiliary=False)
    assert len(without(image)) == 1
    with pytest.raises(ValueError, match=r"batch of one image of 4 x 4 .*batch_size of at least 2"):
        without(torch.randn(1, 3, 4, 4))


def test_a_backbone_without_auxiliary_features_is_an_error():
    kind = classifier("DARTS_V1", **SMALL)
    kind["backbone"]["auxiliary"] = False
    model = build(kind).train()
    with pytest.raises(ValueError, match=r"backbone\.auxiliary=True"):
        model.loss(torch.randn(2, 3, 32, 32), samples([0, 1]))
