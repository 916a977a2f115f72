"""The data sets that have a name: one description each, and the reader of their files.

Means and standard deviations are those of the papers' code (NTK-SAP's for CIFAR and Tiny-ImageNet, torchvision's for
ImageNet); those of MNIST and Fashion-MNIST are of their 60,000 training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ntksap_export.data.spec import IMAGENET_MEAN, IMAGENET_STD, Triple


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a data set before its files are read.

    Attributes:
        summary: what it is, in a few words.
        classes: how many there are.
        image_size: side in pixels that its images are used at.
        mean: per channel, on the scale where white is 1; None: found in the training images.
        std: likewise.
        augment: one of `AUGMENTS`, when nothing else is asked for.
        reader: "module:function", called with the folder of all data sets; None: embedded.
        layout: what lies in that folder.
        home: where it comes from.
        fetch: the class of `torchvision.datasets` that downloads it, if there is one.
    """

    summary: str
    classes: int
    image_size: int
    mean: Triple | None
    std: Triple | None
    augment: str
    reader: str | None = None
    layout: str = ""
    home: str = ""
    fetch: str | None = None


_CIFAR = "https://www.cs.toronto.edu/~kriz/cifar.html"

DATA_SETS: Final[Mapping[str, Description]] = {
    "digits": Description(
        "1,797 real handwritten digits of 8 x 8 pixels, embedded", 10, 32, None, None, "shift",
    ),
    "cifar10": Description(
        "60,000 photographs of animals and vehicles", 10, 32, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262),
        "crop-flip", "ntksap_export.data.cifar:read_cifar10", "cifar-10-batches-py/", _CIFAR, "CIFAR10",
    ),
    "cifar100": Description(
        "60,000 photographs, 600 of each class", 100, 32, (0.507, 0.487, 0.441), (0.267, 0.256, 0.276),
        "crop-flip", "ntksap_export.data.cifar:read_cifar100", "cifar-100-python/", _CIFAR, "CIFAR100",
    ),
    "mnist": Description(
        "70,000 handwritten digits, gray", 10, 28, (0.1307, 0.1307, 0.1307), (0.3081, 0.3081, 0.3081),
        "shift", "ntksap_export.data.idx:read_mnist", "MNIST/raw/", "http://yann.lecun.com/exdb/mnist", "MNIST",
    ),
    "fashion-mnist": Description(
        "70,000 pieces of clothing, gray", 10, 28, (0.2860, 0.2860, 0.2860), (0.3530, 0.3530, 0.3530),
        "crop-flip", "ntksap_export.data.idx:read_fashion_mnist", "FashionMNIST/raw/",
        "https://github.com/zalandoresearch/fashion-mnist", "FashionMNIST",
    ),
    "tiny-imagenet": Description(
        "110,000 photographs, 550 of each class", 200, 64, (0.480, 0.448, 0.397), (0.276, 0.269, 0.282),
        "resized-crop", "ntksap_export.data.tiny:read_tiny_imagenet", "tiny-imagenet-200/ or its .zip",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    ),
    "imagenet": Description(
        "1.3 million photographs (ILSVRC 2012)", 1000, 224, IMAGENET_MEAN, IMAGENET_STD,
        "resized-crop", "ntksap_export.data.folder:read_imagenet", "imagenet/{train,val}/SYNSET/",
        "https://image-net.org",
    ),
}  # fmt: skip
