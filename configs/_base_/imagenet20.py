"""ImageNet-20: 20 classes of ImageNet, 26,000 training and 1,000 validation images (thesis, 4.2.2).

    python tools/make_imagenet_subset.py data/imagenet

writes the lists of images; the images stay where they are. The thesis drew its classes at random and
does not name them, so that its error rates are those of other classes.
"""

imagenet20_train = dict(
    type="CustomDataset",
    data_prefix="data/imagenet/train",
    ann_file="data/imagenet20/train.txt",
    classes="data/imagenet20/classes.txt",
)
imagenet20_val = dict(
    imagenet20_train, data_prefix="data/imagenet/val", ann_file="data/imagenet20/val.txt"
)

how_to_get = {
    "data/imagenet20": "Draw the 20 classes: python tools/make_imagenet_subset.py data/imagenet",
    **dict.fromkeys(
        ("data/imagenet/train", "data/imagenet/val"),
        "Get the training and validation images of ILSVRC 2012 from https://image-net.org (an account "
        "is needed) and unpack them as data/imagenet/train/<class>/*.JPEG and data/imagenet/val, or "
        "link the folder that you have: ln -s /path/to/imagenet data/imagenet",
    ),
}
