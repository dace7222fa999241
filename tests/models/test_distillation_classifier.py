"""Distilling into a classifier: losses and gradients, and that the student stays a plain model."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from rarts_mm.models.distillation import Distilled
from rarts_mm.widths import SlicedLinear
from tests import tiny
from tests.models.distilling import build, gradients, plain, preprocessed, pruned, save


@pytest.fixture
def teacher_file(tmp_path):
    return save(build(plain(), seed=1), tmp_path / "teacher.pth")


def distilled(teacher_file, student=None, teacher=None, seed=2, **options):
    cfg = dict(
        type="rarts_mm.DistilledClassifier",
        student=student or pruned(),
        teacher=teacher or plain(),
        teacher_checkpoint=teacher_file,
        **options,
    )
    return build(cfg, seed)


def test_gradients_are_those_of_the_formula(teacher_file):
    model = distilled(teacher_file, temperature=3.0, task_weight=0.7, kd_weight=2.5)
    student, teacher = build(pruned(), seed=2), build(plain(), seed=1)
    data = preprocessed(student)
    labels = torch.cat([sample.gt_label for sample in data["data_samples"]])
    logits = student(data["inputs"])
    with torch.no_grad():
        p = (teacher(data["inputs"]) / 3).softmax(1)
    divergence = (p * (p.log() - (logits / 3).log_softmax(1))).sum(1).mean()
    loss = 0.7 * F.cross_entropy(logits, labels) + 2.5 * divergence
    assert divergence > 0.01
    expected = gradients(student, loss)

    losses = model(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    found = gradients(model, total)
    torch.testing.assert_close(losses["loss_kd"], 2.5 * divergence, rtol=1e-12, atol=0)
    torch.testing.assert_close(total, loss, rtol=1e-12, atol=0)
    assert set(logged) == {"loss", "loss_kd"}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-13)
    assert all(p.grad is None for p in model.distillation.teacher.parameters())


def test_variant_of_tas(teacher_file):
    # (1 - a) CE + a T^2 KL with a = 0.9, T = 4.
    model = distilled(teacher_file, task_weight=0.1, kd_weight=14.4)
    teacher = build(plain(), seed=1)
    data = preprocessed(model)
    logits, targets = model(data["inputs"]), teacher(data["inputs"])
    labels = torch.cat([sample.gt_label for sample in data["data_samples"]])
    soft = F.kl_div((logits / 4).log_softmax(1), (targets / 4).softmax(1), reduction="batchmean")
    expected = (1 - 0.9) * F.cross_entropy(logits, labels) + 0.9 * 4**2 * soft
    total, _ = model.parse_losses(model(**data, mode="loss"))
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)


def test_defaults_are_the_thesis(teacher_file):
    model = distilled(teacher_file)
    explicit = distilled(teacher_file, temperature=4.0, task_weight=1.0, kd_weight=1.0)
    data = preprocessed(model)
    first, second = (m(**copy.deepcopy(data), mode="loss") for m in (model, explicit))
    assert first == second
    assert first["loss"].item() > 0


def test_a_student_that_is_its_teacher_learns_nothing_from_it(teacher_file):
    model = distilled(teacher_file, student=plain(), seed=1, task_weight=0.0)
    total, logged = model.parse_losses(model(**preprocessed(model), mode="loss"))
    assert logged["loss_kd"] == 0
    assert max(g.abs().max() for g in gradients(model, total).values()) < 1e-14


def test_weight_zero_is_plain_training_without_a_teacher_pass(teacher_file):
    model, student = distilled(teacher_file, kd_weight=0.0), build(pruned(), seed=2)
    model.distillation.teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    data = preprocessed(student)
    own, found = (m(**copy.deepcopy(data), mode="loss") for m in (student, model))
    assert found == own


def test_names_are_those_of_the_plain_model(teacher_file, tmp_path):
    model, student = distilled(teacher_file), build(pruned())
    assert [*model.state_dict()] == [*student.state_dict()]
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in student.named_parameters()]
    assert [n for n, _ in model.named_modules()] == [n for n, _ in student.named_modules()]
    assert isinstance(model, Distilled)
    assert isinstance(model, type(student))
    student.load_state_dict(torch.load(save(model, tmp_path / "student.pth"))["state_dict"])
    data = preprocessed(student)
    for each in (model, student):
        each.eval()
    first, second = (m(**copy.deepcopy(data), mode="predict") for m in (model, student))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.pred_score, b.pred_score)


def test_widths_of_another_pruning_are_refused(teacher_file):
    with pytest.raises(RuntimeError, match="different prunings"):
        distilled(teacher_file).load_state_dict(build(plain()).state_dict(), strict=False)


def test_optimiser_groups_are_those_of_the_plain_model(teacher_file):
    cfg = dict(
        optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.05),
        paramwise_cfg=dict(
            norm_decay_mult=0.0,
            bias_decay_mult=0.5,
            custom_keys={
                "backbone": dict(lr_mult=0.1),
                "relative_position_bias_table": dict(decay_mult=0.0),
            },
        ),
    )

    def groups(model):
        names = {p: n for n, p in model.named_parameters()}
        found = build_optim_wrapper(model, copy.deepcopy(cfg)).optimizer.param_groups
        return [([names[p] for p in g["params"]], g["lr"], g["weight_decay"]) for g in found]

    expected = groups(build(pruned()))
    assert groups(distilled(teacher_file)) == expected
    assert {rate for _, rate, _ in expected} == {0.1, 0.1 * 0.1}


def test_the_teacher_only_answers(teacher_file):
    model = distilled(teacher_file)
    teacher = model.distillation.teacher
    model.train()
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    seen = []
    teacher.backbone.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    model(**preprocessed(model), mode="loss")
    assert seen == [False]
    assert passes == [1]


def test_the_teacher_goes_where_the_student_goes(teacher_file):
    model = distilled(teacher_file)
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        assert {p.dtype for p in model.distillation.teacher.parameters()} == {dtype}
    model.to("meta")
    assert {p.device.type for p in model.distillation.teacher.parameters()} == {"meta"}


def test_copies_share_the_teacher(teacher_file):
    model = distilled(teacher_file)
    average = ExponentialMovingAverage(model)
    assert average.module.distillation.teacher is model.distillation.teacher
    assert [*average.module.state_dict()] == [*model.state_dict()]
    assert average.module.head.fc.weight is not model.head.fc.weight
    data = preprocessed(model)
    first, second = (m(**copy.deepcopy(data), mode="loss") for m in (model, average))
    assert first == second


def test_a_mixed_batch_goes_to_both(teacher_file):
    mixup = dict(augments=dict(type="Mixup", alpha=0.8))
    student = dict(pruned(), train_cfg=mixup)
    model = distilled(teacher_file, student=student)
    seen = {}
    for name, network in (("student", model), ("teacher", model.distillation.teacher)):
        network.backbone.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0]})
        )
    torch.manual_seed(3)
    batch = model.data_preprocessor(tiny.batch(4), training=True)
    batch["inputs"] = batch["inputs"].double()
    scores = torch.stack([sample.gt_score for sample in batch["data_samples"]]).double()
    assert ((scores > 0) & (scores < 1)).any()
    total, _ = model.parse_losses(model(**batch, mode="loss"))
    assert seen["student"] is seen["teacher"]
    logits, targets = model(seen["student"]), build(plain(), seed=1)(seen["student"])
    soft = F.kl_div((logits / 4).log_softmax(1), (targets / 4).softmax(1), reduction="batchmean")
    torch.testing.assert_close(total, F.cross_entropy(logits, scores) + soft, rtol=1e-6, atol=0)


def test_a_failed_step_leaves_nothing_behind(teacher_file):
    model = distilled(teacher_file)
    data = preprocessed(model)
    with pytest.raises(TypeError):
        model.loss(data["inputs"], None)
    assert "forward" not in vars(model.head)
    model(**data, mode="loss")
    assert "forward" not in vars(model.head)


@pytest.mark.parametrize("distil", [False, True])
def test_activation_checkpointing_changes_no_gradient(teacher_file, distil):
    found = []
    for with_cp in (False, True):
        student = pruned(backbone=dict(with_cp=with_cp))
        model = distilled(teacher_file, student) if distil else build(student, seed=2)
        calls = []
        for module in model.modules():
            if isinstance(module, SlicedLinear):
                module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        total, _ = model.parse_losses(model(**preprocessed(model), mode="loss"))
        found.append((gradients(model, total), len(calls)))
    (expected, once), (checkpointed, twice) = found
    assert twice == 2 * once
    assert expected.keys() == checkpointed.keys()
    for name, gradient in checkpointed.items():
        assert torch.equal(gradient, expected[name]), name


def test_mixed_precision(teacher_file):
    model = distilled(teacher_file).float()
    data = preprocessed(model)
    data["inputs"] = data["inputs"].float()
    exact = model(**copy.deepcopy(data), mode="loss")
    with torch.autocast("cpu", torch.bfloat16):
        assert model(data["inputs"]).dtype == torch.bfloat16
        losses = model(**data, mode="loss")
    assert losses["loss_kd"].dtype == torch.float32
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.1)
    total, _ = model.parse_losses(losses)
    for name, gradient in gradients(model, total).items():
        assert gradient.dtype == torch.float32, name
        assert gradient.isfinite().all(), name


def test_models_of_timm(tmp_path):
    cfg = dict(
        type="mmpretrain.TimmClassifier",
        model_name="test_resnet",
        num_classes=4,
        data_preprocessor=tiny.preprocessor(),
        _scope_="mmpretrain",
    )
    teacher = build(cfg, seed=1)
    file = save(teacher, tmp_path / "teacher.pth")
    # Weights from the net are not asked for: the teacher's are in its file.
    model = distilled(file, student=cfg, teacher=dict(cfg, pretrained=True)).eval()
    data = preprocessed(model)
    soft = F.kl_div(
        (model(data["inputs"]) / 4).log_softmax(1),
        (teacher.eval()(data["inputs"]) / 4).softmax(1),
        reduction="batchmean",
    )
    losses = model(**data, mode="loss")
    torch.testing.assert_close(losses["loss_kd"], soft, rtol=1e-9, atol=0)
    assert [*model.state_dict()] == [*build(cfg).state_dict()]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(temperature=0.0), ["temperature", "positive", "0.0"]),
        (dict(temperature=float("nan")), ["temperature", "nan"]),
        (dict(kd_weight=-1.0), ["kd_weight", "-1.0"]),
        (dict(task_weight=True), ["task_weight", "True"]),
        (dict(teacher=plain(head=dict(num_classes=7))), ["not of the teacher's model", "(7, 16)"]),
        (dict(teacher=plain(backbone=dict(window_size=2))), ["not of the teacher's model"]),
        (
            dict(teacher=dict(plain(), data_preprocessor=dict(tiny.preprocessor(), to_rgb=True))),
            ["BGR and RGB True", "student's False"],
        ),
        (
            dict(
                teacher=dict(plain(), data_preprocessor=dict(tiny.preprocessor(), mean=[1, 2, 3]))
            ),
            ["mean [1.0, 2.0, 3.0]", "[120.0, 125.0, 130.0]"],
        ),
        (
            dict(student=pruned(head=dict(num_classes=7))),
            ["teacher has 4 classes", "student 7"],
        ),
        (
            dict(student=pruned(head=dict(type="ArcFaceClsHead"))),
            ["student's ArcFaceClsHead", "label"],
        ),
        (
            dict(student=pruned(head=dict(type="MultiLabelLinearClsHead"))),
            ["MultiLabelLinearClsHead has no softmax"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(teacher_file, options, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        distilled(teacher_file, **options)
    for word in words[1:]:
        assert word in str(error.value)


def test_checkpoints_that_do_not_fit_are_refused(teacher_file, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pth does not exist"):
        distilled(str(tmp_path / "nowhere.pth"))
    state = torch.load(teacher_file)["state_dict"]
    deeper = tmp_path / "deeper.pth"
    torch.save({**state, "backbone.stages.2.norm.weight": torch.zeros(3)}, deeper)
    with pytest.raises(ValueError, match=r"stages\.2\.norm\.weight: not in the model"):
        distilled(str(deeper))
    shallower = tmp_path / "shallower.pth"
    torch.save({k: v for k, v in state.items() if k != "head.fc.bias"}, shallower)
    with pytest.raises(ValueError, match=r"head\.fc\.bias: not in the file"):
        distilled(str(shallower))
    search = tmp_path / "search.pth"
    torch.save(tiny.search_model().state_dict(), search)
    with pytest.raises(ValueError, match="one of a search"):
        distilled(str(search))


def test_a_preprocessor_of_the_runner_serves_both(teacher_file):
    def without(cfg):
        return {k: v for k, v in cfg.items() if k != "data_preprocessor"}

    cfg = dict(
        type="rarts_mm.DistilledClassifier",
        student=without(pruned()),
        teacher=without(plain()),
        teacher_checkpoint=teacher_file,
        data_preprocessor=tiny.preprocessor(),
        _scope_="mmpretrain",
    )
    untouched = copy.deepcopy(cfg)
    model = MODELS.build(cfg)
    assert cfg == untouched
    for network in (model, model.distillation.teacher):
        assert network.data_preprocessor.mean.flatten().tolist() == [120, 125, 130]
