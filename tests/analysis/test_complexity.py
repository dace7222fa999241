"""Counts against closed forms and published numbers."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import ModulatedDeformConv2dPack
from torch import nn

from rarts_mm.analysis import count_flops, count_parameters
from rarts_mm.widths import insert_scores


class TestLayers:
    @pytest.mark.parametrize(
        ("groups", "stride", "padding", "dilation"),
        [(1, 1, 1, 1), (3, 2, 0, 1), (6, (2, 1), 1, 2)],
    )
    def test_convolution(self, groups, stride, padding, dilation):
        conv = nn.Conv2d(6, 12, (3, 5), stride, padding, dilation, groups)
        height, width = conv(torch.zeros(1, 6, 17, 23)).shape[-2:]
        count = count_flops(conv, (17, 23))
        assert count.total == height * width * 12 * (6 // groups) * 3 * 5
        assert count.total_parameters == 12 * (6 // groups) * 15 + 12

    @pytest.mark.parametrize("groups", [1, 3])
    def test_transposed_convolution(self, groups):
        model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 9, 4, 2, 1, groups=groups))
        count = count_flops(model, (7, 5))
        # Every input pixel meets the whole kernel.
        assert count.flops["1"] == 35 * 6 * (9 // groups) * 16
        assert count.flops["0"] == 35 * 3 * 6

    def test_deformable_convolution_costs_what_a_plain_one_does(self):
        layer = ModulatedDeformConv2dPack(4, 6, 3, stride=2, padding=1, deform_groups=2)
        outputs = 9 * 6
        offsets = outputs * 4 * 9 * (2 * 3 * 9)
        assert count_flops(layer, (17, 11)).total == outputs * 4 * 9 * 6 + offsets

    @pytest.mark.parametrize("bias", [True, False])
    def test_linear(self, bias):
        # (1, 3, 5, 7): a linear layer on the last dimension.
        count = count_flops(nn.Sequential(nn.Linear(7, 11, bias=bias), nn.GELU()), (5, 7))
        assert count.flops == {"": 15 * 7 * 11, "0": 15 * 7 * 11}

    @pytest.mark.parametrize("masked", [True, False])
    @pytest.mark.parametrize("value_dim", [4, 6])
    def test_scaled_dot_product_attention(self, masked, value_dim):
        class Attention(nn.Module):
            def forward(self, images):
                # 3 heads of 6 dimensions, 20 queries, 35 keys.
                tokens = images.reshape(1, 1, -1, 6).expand(1, 3, -1, -1)
                query, key = tokens[:, :, :20], tokens[:, :, :35]
                mask = torch.zeros(20, 35) if masked else None
                return F.scaled_dot_product_attention(
                    query, key, key[..., :value_dim], attn_mask=mask
                )

        assert count_flops(Attention(), (10, 7)).total == 3 * 20 * 35 * (6 + value_dim)

    @pytest.mark.parametrize("batch_first", [True, False])
    def test_multihead_attention(self, batch_first):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = nn.Conv2d(3, 16, 4, 4)
                self.attn = nn.MultiheadAttention(16, 4, batch_first=batch_first)

            def forward(self, images):
                x = self.embed(images).flatten(2)
                x = x.transpose(1, 2) if batch_first else x.permute(2, 0, 1)
                return self.attn(x, x, x, need_weights=False)[0]

        enabled = torch.backends.mha.get_fastpath_enabled()
        count = count_flops(Tokens(), (12, 20))
        assert count.flops["attn"] == 4 * 15 * 16 * 16 + 2 * 15 * 15 * 16
        # Its output projection is used without being called: it is in the count.
        assert count.not_run == ()
        assert torch.backends.mha.get_fastpath_enabled() == enabled

    def test_only_products_count(self):
        model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Softmax(1))
        assert count_flops(model, (8, 8)).total == 0

    def test_shapes_that_depend_on_values(self):
        class Select(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3, 5)

            def forward(self, images):
                pixels = images.flatten(2)[0].T
                return self.linear(pixels[pixels.sum(1) < 1])

        # The image is black.
        assert count_flops(Select(), (4, 6)).total == 24 * 15


class TestTable43:
    """Thesis, Table 4.3: costs at a uniform remaining ratio r."""

    @pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5])
    def test_operations_and_parameters(self, swin, prune_evenly, ratio):
        model = swin()
        if ratio:
            prune_evenly(model, ratio)
        count = count_flops(model, (48, 48))
        r = 1 - ratio
        for stage, (tokens, dim) in enumerate([(144, 16), (36, 32)]):
            for block in range(2):
                path = f"stages.{stage}.blocks.{block}"
                msa = 4 * r * tokens * dim**2 + 2 * r * tokens * 3**2 * dim
                assert count.flops[f"{path}.attn.w_msa"] == msa
                assert count.flops[f"{path}.ffn"] == 2 * r * tokens * dim * 4 * dim
                attention, mlp = model.get_submodule(f"{path}.attn.w_msa"), f"{path}.ffn.layers"
                weights = attention.qkv.weight.numel() + attention.proj.weight.numel()
                assert weights == 4 * r * dim**2
                mlp = model.get_submodule(mlp)
                assert mlp[0][0].weight.numel() + mlp[1].weight.numel() == 2 * r * dim * 4 * dim

    def test_padded_tokens_cost_in_attention_alone(self, swin):
        # 11 x 13 tokens are padded to 12 x 15 for the windows.
        count = count_flops(swin(), (44, 52))
        msa = 180 * (4 * 16**2 + 2 * 9 * 16)
        assert count.flops["stages.0.blocks.1.attn.w_msa"] == msa
        assert count.flops["stages.0.blocks.1.ffn"] == 143 * 2 * 16 * 64

    def test_scores_cost_nothing(self, swin):
        model = swin()
        before = count_flops(model, (48, 48))
        insert_scores(model)
        after = count_flops(model, (48, 48))
        assert (after.total, after.total_parameters) == (before.total, before.total_parameters)


class TestModels:
    def test_swin_classifier(self, classifier):
        count = count_flops(classifier, (224, 224))
        assert count.total == pytest.approx(4.49e9, abs=0.01e9)
        assert count.total_parameters == count_parameters(classifier) == 27_596_254
        assert count.flops["backbone"] + count.flops["head"] == count.total
        assert count.not_run == ()

    def test_cascade_mask_rcnn(self, detector):
        count = count_flops(detector, (800, 1280))
        # The release prints 745 G.
        assert count.total == pytest.approx(745e9, abs=0.5e9)
        assert count.total_parameters == count_parameters(detector) == 85_629_804
        assert count.parameters["backbone"] == 27_520_698
        parts = ("backbone", "neck", "rpn_head", "roi_head")
        assert sum(count.flops[part] for part in parts) == count.total
        assert count.proposals == {"bbox": 1000, "mask": 100}
        # Closed forms: 4 convolutions at 7 x 7, a layer on what they give, classes and boxes.
        bbox = 49 * 4 * 9 * 256**2 + 49 * 256 * 1024 + 1024 * 81 + 1024 * 4 * 80
        # 4 convolutions at 14 x 14, a transposed one of 2 x 2, classes at 28 x 28.
        mask = 196 * 4 * 9 * 256**2 + 196 * 4 * 256**2 + 784 * 256 * 80
        for stage in range(3):
            assert count.flops[f"roi_head.bbox_head.{stage}"] == 1000 * bbox
            assert count.flops[f"roi_head.mask_head.{stage}"] == 100 * mask

    def test_boxes_are_those_of_the_test_settings(self, small_detector):
        def heads(boxes, masks):
            small_detector.test_cfg.rpn.max_per_img = boxes
            small_detector.test_cfg.rcnn.max_per_img = masks
            flops = count_flops(small_detector, (64, 64)).flops
            return flops["roi_head.bbox_head"], flops["roi_head.mask_head"], flops["backbone"]

        bbox, mask, backbone = heads(10, 1)
        assert heads(30, 1) == (3 * bbox, mask, backbone)
        assert heads(10, 7) == (bbox, 7 * mask, backbone)

    def test_containers_hold_the_sum_of_their_parts(self, small_detector):
        count = count_flops(small_detector, (64, 96))
        blocks = [p for p in count.flops if p.startswith("backbone.stages.0.blocks.")]
        direct = [p for p in blocks if p.count(".") == 4]
        assert count.flops["backbone.stages.0.blocks"] == sum(count.flops[p] for p in direct)

    def test_layers_that_do_not_run_are_named(self):
        class Auxiliary(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 1)
                self.auxiliary = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1))

            def forward(self, images):
                return self.conv(images)

        count = count_flops(Auxiliary(), (5, 5))
        assert count.not_run == ("auxiliary.1",)
        assert count.total == 25 * 12

    def test_the_model_stays_as_it_was(self, small_detector):
        alphas = insert_scores(small_detector)
        small_detector.train()
        small_detector.neck.eval()
        modes = {name: m.training for name, m in small_detector.named_modules()}
        state = {name: value.clone() for name, value in small_detector.state_dict().items()}
        attributes = {name: set(vars(m)) for name, m in small_detector.named_modules()}
        pointers = [p.data_ptr() for p in [*small_detector.parameters(), *alphas.values()]]
        random = torch.get_rng_state()
        count_flops(small_detector, (64, 64))
        assert {name: m.training for name, m in small_detector.named_modules()} == modes
        assert {name: set(vars(m)) for name, m in small_detector.named_modules()} == attributes
        assert pointers == [p.data_ptr() for p in [*small_detector.parameters(), *alphas.values()]]
        assert all(torch.equal(v, state[k]) for k, v in small_detector.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random)

    def test_any_type_of_numbers(self, swin):
        expected = count_flops(swin(), (48, 48)).total
        assert count_flops(swin().double(), (48, 48)).total == expected
        assert count_flops(swin().bfloat16(), (48, 48)).total == expected

    def test_shared_and_frozen_parameters(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        model[0].requires_grad_(False)
        assert count_parameters(model) == 9 + 3 + 3


class TestErrors:
    @pytest.mark.parametrize("size", [224, (224,), (0, 224), (224.0, 224), "224", (True, 4)])
    def test_size(self, size):
        with pytest.raises(ValueError, match=r"height and width.*got"):
            count_flops(nn.Conv2d(3, 3, 1), size)

    def test_a_model_that_does_not_run_at_the_size(self):
        with pytest.raises(ValueError, match=r"Conv2d does not run on one image of 4 x 4 pixels"):
            count_flops(nn.Conv2d(3, 3, 9), (4, 4))
