r"""An n-gram model with interpolated Kneser-Ney smoothing: what counting alone reaches.

    p_n(w | c)   = max(N(c w) - d, 0) / N(c .) + d |{v : N(c v) > 0}| / N(c .) p_{n-1}(w | c')
    p_0(w)       = 1 / V

N(c w) are occurrences for the longest contexts; below, N(c w) is the number of different words that came
before c w: "York" is frequent, but after few words, and is not expected after others. c' is c without its
first word. A context that never came says nothing: p_n(w | c) = p_{n-1}(w | c').

| symbol | meaning | shape | name |
|---|---|---|---|
| n | length of the longest n-gram | scalar | `order` |
| d | discount | scalar | `discount` |
| V | words | scalar | `vocabulary` |

Every n-gram is one integer, its words read as digits to the base V, and tables are sorted: counting and
looking up are sorting and bisection.

Source: Kneser and Ney 1995; Chen and Goodman 1999 for the interpolated form.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64
from numpy.typing import NDArray

from eventbook.kernels.encoders.arguments import whole


class _Level(NamedTuple):
    """Counts of the n-grams of one length, and what they sum up to for each context."""

    grams: Int64[np.ndarray, "gram"]
    counts: Float64[np.ndarray, "gram"]
    contexts: Int64[np.ndarray, "context"]
    totals: Float64[np.ndarray, "context"]
    kinds: Float64[np.ndarray, "context"]


class KneserNey:
    """See the module.

    Parameters
    ----------
    tokens
        The text to count in, (token,) integers.
    vocabulary
        V; words are 0..V-1.
    order
        n, 1 or above; with 1 the frequencies of words.
    discount
        d, between 0 and 1.

    Raises
    ------
    ValueError
        If the text is shorter than an n-gram or has a word beyond the vocabulary (names the first), the
        discount is not between 0 and 1, or there are more n-grams than integers.
    TypeError
        If tokens are no integers, or a size is no whole number.

    Examples
    --------
    >>> text = np.array([0, 1, 2, 0, 1, 2, 0, 1, 3])
    >>> model = KneserNey(text, 4, order=2)
    >>> np.exp(model.log_probabilities(np.array([0, 1, 2]))).round(3)
    array([0.812, 0.542])
    """

    def __init__(
        self, tokens: Int[np.ndarray, "token"], vocabulary: int, order: int = 3, discount: float = 0.75
    ) -> None:
        self.vocabulary, self.order = whole(vocabulary, "vocabulary", 1), whole(order, "order", 1)
        if not 0 < discount < 1:
            raise ValueError(f"discount must be between 0 and 1, got {discount}")
        if self.order * math.log2(self.vocabulary) >= 63:
            most = math.ceil(63 / math.log2(self.vocabulary)) - 1
            raise ValueError(f"order must be {most} or below with {vocabulary} words, got {order}")
        self.discount = float(discount)
        words = self._checked(tokens, self.order)
        grams, counts = np.unique(self._grams(words, self.order), return_counts=True)
        levels = [self._level(grams, counts)]
        for length in range(self.order - 1, 0, -1):
            # of each different n-gram that is one word longer, the end: what came before is counted once
            grams, counts = np.unique(grams % self.vocabulary**length, return_counts=True)
            levels.append(self._level(grams, counts))
        self._levels = levels[::-1]

    def log_probabilities(self, tokens: Int[np.ndarray, "token"]) -> Float64[np.ndarray, "predicted"]:
        """Natural logarithm of the probability of each word but the first, given those before it.

        The first few have shorter contexts: all that there is.

        Raises
        ------
        ValueError, TypeError
            If tokens are not (token,) words, two at least.
        """
        words = self._checked(tokens, 2)
        p = np.full(len(words), 1 / self.vocabulary)
        for length, level in enumerate(self._levels, 1):
            if length > len(words):
                break
            p[length - 1 :] = self._interpolated(level, self._grams(words, length), p[length - 1 :])
        return np.log(p[1:])

    def perplexity(self, tokens: Int[np.ndarray, "token"]) -> float:
        """exp of the mean of -log p over all words but the first; errors as `log_probabilities`."""
        return math.exp(-float(self.log_probabilities(tokens).mean()))

    def _interpolated(
        self, level: _Level, grams: NDArray[np.int64], lower: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        contexts = grams // self.vocabulary
        known, place = _find(level.contexts, contexts)
        there, at = _find(level.grams, grams)
        count = np.where(there, level.counts[at], 0.0)
        total = level.totals[place]
        held = np.maximum(count - self.discount, 0) + self.discount * level.kinds[place] * lower
        return np.where(known, held / total, lower)

    def _level(self, grams: NDArray[np.int64], counts: NDArray[np.int64]) -> _Level:
        contexts, first = np.unique(grams // self.vocabulary, return_index=True)
        totals = np.add.reduceat(counts, first).astype(float)
        kinds = np.diff(np.append(first, len(grams))).astype(float)
        return _Level(grams, counts.astype(float), contexts, totals, kinds)

    def _grams(self, words: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """All n-grams of a length, in the order of the text."""
        grams = np.zeros(len(words) - length + 1, np.int64)
        for at in range(length):
            grams = grams * self.vocabulary + words[at : at + len(grams)]
        return grams

    def _checked(self, tokens: NDArray[np.integer], least: int) -> NDArray[np.int64]:
        given = np.asarray(tokens)
        if given.ndim != 1 or len(given) < least:
            raise ValueError(f"tokens must be (token,) with {least} at least, got {given.shape}")
        if given.dtype.kind not in "iu":
            raise TypeError(f"tokens must be integers, got {given.dtype}")
        wrong = (given < 0) | (given >= self.vocabulary)
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(f"tokens[{at}] must be in 0..{self.vocabulary - 1}, got {given[at]}")
        return given.astype(np.int64)


def _find(table: NDArray[np.int64], asked: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Whether each number is in a sorted table, and where (anywhere, if it is not)."""
    at = np.minimum(np.searchsorted(table, asked), len(table) - 1)
    return table[at] == asked, at
