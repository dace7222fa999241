"""One network for each family of timm, and detectors of MMDetection's configs."""

TIMM = (
    *("resnet50", "resnetv2_50", "seresnet50", "ecaresnet50t", "skresnet18", "resnest14d"),
    *("resnext50_32x4d", "res2net50_26w_4s", "res2next50", "dpn68", "senet154", "densenet121"),
    *("inception_v3", "inception_v4", "inception_resnet_v2", "xception41", "nasnetalarge"),
    *("pnasnet5large", "mnasnet_050", "mobilenetv2_035", "mobilenetv3_small_100"),
    *("mobilenetv4_conv_small", "efficientnet_b0", "efficientnetv2_rw_t", "tf_efficientnet_lite0"),
    *("fbnetc_100", "lcnet_050", "tinynet_e", "hardcorenas_a", "rexnet_100", "regnetx_002"),
    *("regnety_002", "dla34", "dla60_res2net", "vovnet39a", "hrnet_w18_small", "selecsls42"),
    *("gernet_s", "botnet26t_256", "halonet26t", "lambda_resnet26t", "gcresnet33ts"),
    *("cspdarknet53", "cs3darknet_m", "darknet53", "vgg11_bn", "repvgg_a0", "ghostnet_100"),
    *("ghostnetv2_100", "mobileone_s0", "repghostnet_050", "repvit_m0_9", "starnet_s1"),
    *("fasternet_t0", "rdnet_tiny", "hgnetv2_b0", "convnext_atto", "convnextv2_atto"),
    *("convmixer_768_32", "inception_next_atto", "mambaout_femto", "van_b0", "focalnet_tiny_srf"),
    *("poolformer_s12", "poolformerv2_s12", "caformer_s18", "fastvit_t8", "edgenext_xx_small"),
    *("efficientformer_l1", "efficientformerv2_s0", "efficientvit_b0", "mobilevit_xxs"),
    *("nfnet_l0", "vit_tiny_patch16_224", "deit_tiny_patch16_224", "cait_xxs24_224"),
    *("mixer_s16_224", "resmlp_12_224", "gmlp_ti16_224", "levit_128s", "tiny_vit_5m_224"),
    *("swin_tiny_patch4_window7_224", "pvt_v2_b0", "coat_lite_tiny", "visformer_tiny"),
    *("xcit_nano_12_p16_224", "sequencer2d_s"),
)
MMDET = (
    *("rtmdet/rtmdet_tiny_8xb32-300e_coco.py", "yolox/yolox_tiny_8xb8-300e_coco.py"),
    *("yolo/yolov3_d53_8xb8-320-273e_coco.py", "ssd/ssd300_coco.py"),
    *("retinanet/retinanet_r50_fpn_1x_coco.py", "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"),
    *("atss/atss_r50_fpn_1x_coco.py", "gfl/gfl_r50_fpn_1x_coco.py"),
    *("tood/tood_r50_fpn_1x_coco.py", "vfnet/vfnet_r50_fpn_1x_coco.py"),
    *("solov2/solov2_r50_fpn_1x_coco.py", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"),
    *("mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", "swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py"),
    "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
)
FAMILIES = {"timm": TIMM, "mmdet": MMDET}
