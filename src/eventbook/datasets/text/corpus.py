"""A text as word ids, in three parts, with the words of each id.

==========  ======================================================  ==============  ================
symbol      meaning                                                 shape           name
==========  ======================================================  ==============  ================
w_t         id of the t-th token                                    (T,) int32      ``train`` ...
V           words, most frequent first, after two marks             strings         ``vocabulary``
==========  ======================================================  ==============  ================

Ids are ranks by frequency in the training part, so that a smaller vocabulary is the same text with its
larger ids read as ``<unk>``. Perplexities of different vocabularies are different quantities.

Source: derived.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32

from eventbook.datasets.options import whole
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import Source

UNKNOWN, END = "<unk>", "<eos>"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as word ids in three parts.

    Attributes
    ----------
    train, valid, test : Int32[ndarray, "token"]
    vocabulary : tuple of str
        Word of each id; 0 is ``<unk>``, 1 is ``<eos>``.
    source : Source
    """

    train: Int32[np.ndarray, " token"]
    valid: Int32[np.ndarray, " token"]
    test: Int32[np.ndarray, " token"]
    vocabulary: tuple[str, ...]
    source: Source

    def words(self, ids: Int32[np.ndarray, " token"]) -> list[str]:
        """The words of some ids."""
        return [self.vocabulary[i] for i in ids]

    def unknown_share(self, part: str) -> float:
        """Share of tokens of a part that are ``<unk>``."""
        return float((self.part(part) == 0).mean())

    def part(self, name: str) -> Int32[np.ndarray, " token"]:
        """ "train", "valid" or "test"; DataError for another name."""
        if name not in PARTS:
            raise DataError(f"part: expected one of {', '.join(PARTS)}, got {name!r}")
        ids: np.ndarray = getattr(self, name)
        return ids

    def with_words(self, words: int) -> "Corpus":
        """The same text with so many words besides the two marks; all others are ``<unk>``.

        Raises
        ------
        DataError
            If it is no whole number, below 1, or more than there are.
        """
        known = len(self.vocabulary) - 2
        size = whole(words, "words", 1, known) + 2
        train, valid, test = (np.where(ids < size, ids, np.int32(0)) for ids in map(self.part, PARTS))
        return replace(self, train=train, valid=valid, test=test, vocabulary=self.vocabulary[:size])


def build_vocabulary(tokens: Iterable[str], size: int | None = None) -> tuple[str, ...]:
    """``<unk>``, ``<eos>`` and the `size` most frequent other tokens, all of them without a size.

    Ties are in alphabetical order.
    """
    counts = Counter(tokens)
    del counts[END], counts[UNKNOWN]
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return (UNKNOWN, END, *ranked[:size])


def corpus_of(parts: Mapping[str, Sequence[str]], source: Source, words: int | None = None) -> Corpus:
    """Number the tokens of three parts by their frequency in the first.

    Parameters
    ----------
    parts : mapping
        Tokens of "train", "valid" and "test".
    source : Source
    words : int, optional
        Size of the vocabulary without its two marks; every word of the training part by default.

    Raises
    ------
    DataError
        If a part has no tokens; names it.
    """
    for part in PARTS:
        if not len(parts[part]):
            raise DataError(f"{source.title}: expected tokens in its part {part!r}, found none")
    vocabulary = build_vocabulary(parts["train"], words)
    index = {word: i for i, word in enumerate(vocabulary)}

    def ids(part: str) -> np.ndarray:
        return np.fromiter((index.get(word, 0) for word in parts[part]), np.int32, len(parts[part]))

    return Corpus(ids("train"), ids("valid"), ids("test"), vocabulary, source)
