"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 grey values, ten classes.

=========  ======================================  ==================  ==========
symbol     meaning                                 shape               name
=========  ======================================  ==================  ==========
X          grey values, 0 background to 255        (N, 28, 28) uint8   ``images``
y          class, 0 to 9                           (N,) int64          ``labels``
=========  ======================================  ==================  ==========

Sources: LeCun, Bottou, Bengio and Haffner 1998 (MNIST); Xiao, Rasul and Vollgraf 2017 (Fashion-MNIST). Both
are published as idx files of the same names, so one reader serves both.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.idx import decode_idx
from eventbook.datasets.storage.store import Source, read_dataset

Split = Literal["train", "test"]

#: The first this many training images are the validation set of TensorFlow's MNIST tutorial reader.
TENSORFLOW_VALIDATION = 5_000

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes, and where they came from.

    Attributes
    ----------
    images : UInt8[ndarray, "image row column"]
    labels : Int64[ndarray, "image"]
    source : Source
    """

    images: UInt8[np.ndarray, "image row column"]
    labels: Int64[np.ndarray, " image"]
    source: Source

    def __post_init__(self) -> None:
        if self.images.ndim != 3 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels: expected one per image of {self.images.shape}, got shape {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice) -> "LabelledImages":
        """A view of a range of images."""
        return LabelledImages(self.images[chosen], self.labels[chosen], self.source)


def load_mnist(split: Split) -> LabelledImages:
    """Load MNIST.

    Parameters
    ----------
    split : "train" or "test"
        60,000 or 10,000 images, in the published order.

    Returns
    -------
    LabelledImages
        ``images`` (N, 28, 28) uint8 in 0..255, ``labels`` (N,) int64, ``source``.

    Raises
    ------
    DataError
        If `split` is another word, or the files are missing or not what the manifest pins.

    Examples
    --------
    >>> test = load_mnist("test")
    >>> test.images.shape, test.labels[:5].tolist()
    ((10000, 28, 28), [7, 2, 1, 0, 4])
    """
    return _load("mnist", "MNIST/raw", split)


def load_fashion_mnist(split: Split) -> LabelledImages:
    """Load Fashion-MNIST, which is fetched on demand: ``eventbook data get fashion_mnist``.

    Arguments, return value and errors as `load_mnist`; `FASHION_CLASSES` names the labels.
    """
    return _load("fashion_mnist", "FashionMNIST/raw", split)


def tensorflow_validation_split(training: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Hold out the first 5,000 training images, as TensorFlow's MNIST tutorial reader did.

    The authors' code of Deep Rewiring (Bellec et al. 2018) reads MNIST that way: it trains on images 5,000 to
    59,999 and keeps images 0 to 4,999 for validation. Nothing is shuffled.

    Parameters
    ----------
    training : LabelledImages
        All 60,000 training images.

    Returns
    -------
    train, validation : LabelledImages
        55,000 and 5,000 images.

    Raises
    ------
    DataError
        If `training` is not the whole training set, for the split would then mean something else.
    """
    if len(training) != 60_000:
        raise DataError(f"training: expected all 60000 training images, got {len(training)}")
    return training[TENSORFLOW_VALIDATION:], training[:TENSORFLOW_VALIDATION]


def _load(name: str, folder: str, split: Split) -> LabelledImages:
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise DataError(f"split: expected 'train' or 'test', got {split!r}")
    paths = [f"{folder}/{prefixes[split]}-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1")]
    contents, source = read_dataset(name, paths)
    images, labels = (decode_idx(content, path) for content, path in zip(contents, paths, strict=True))
    return LabelledImages(images, labels.astype(np.int64), source)
