"""The n-gram model against sums written out, and probabilities that are some."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbook.datasets import load_state_of_the_union
from eventbook.models.language_model import KneserNey


def written_out(
    text: list[int], words: int, order: int, d: float, context: tuple[int, ...], word: int
) -> float:
    """The definition, with sets and loops."""
    grams = [tuple(text[i : i + order]) for i in range(len(text) - order + 1)]
    counts = Counter(grams)
    tables = [counts]
    while order > 1:
        order -= 1
        counts = Counter(gram[1:] for gram in counts)  # over different n-grams, not over places
        tables.append(counts)
    p = 1 / words
    for table in tables[::-1]:
        length = len(next(iter(table)))
        if length - 1 > len(context):
            break
        c = context[len(context) - length + 1 :]
        total = sum(n for gram, n in table.items() if gram[:-1] == c)
        if total:
            kinds = sum(gram[:-1] == c for gram in table)
            p = max(table[(*c, word)] - d, 0) / total + d * kinds / total * p
    return p


@given(
    st.lists(st.integers(0, 4), min_size=4, max_size=40), st.lists(st.integers(0, 4), min_size=2, max_size=9),
    st.integers(1, 4), st.floats(0.05, 0.95),
)  # fmt: skip
def test_probabilities_are_those_of_the_definition(text, held_out, order, discount):
    model = KneserNey(np.array(text), 5, order, discount)
    expected = [
        np.log(written_out(text, 5, order, discount, tuple(held_out[max(0, t - order + 1) : t]), held_out[t]))
        for t in range(1, len(held_out))
    ]
    np.testing.assert_allclose(model.log_probabilities(np.array(held_out)), expected, rtol=1e-12)


@given(
    st.lists(st.integers(0, 5), min_size=3, max_size=60), st.lists(st.integers(0, 5), min_size=2, max_size=2)
)
def test_probabilities_of_all_words_sum_to_one(text, context):
    model = KneserNey(np.array(text), 6, 3)
    p = [np.exp(model.log_probabilities(np.array([*context, w]))[-1]) for w in range(6)]
    assert sum(p) == pytest.approx(1, rel=1e-12)
    assert min(p) > 0


def test_a_frequent_word_with_one_predecessor_is_not_expected_elsewhere():
    text = np.array([0, 1] * 20 + [2, 3, 4, 3, 5, 3, 6, 3])
    model = KneserNey(text, 9, 2)
    after_new = np.exp([model.log_probabilities(np.array([8, w]))[0] for w in (1, 3)])
    assert after_new[0] < after_new[1]  # 1 came twenty times, always after 0; 3 four times, after four words
    assert np.bincount(text)[1] > np.bincount(text)[3]


def test_the_anchor_of_the_book():
    corpus = load_state_of_the_union()
    model = KneserNey(corpus.train, len(corpus.vocabulary))
    assert round(model.perplexity(corpus.valid), 1) == 111.1
    assert round(model.perplexity(corpus.test), 1) == 106.1


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        (lambda: KneserNey(np.array([1, 2]), 5, 3), ValueError, r"tokens must be \(token,\) with 3 at least"),
        (lambda: KneserNey(np.array([1, 2, 5]), 5), ValueError, r"tokens\[2\] must be in 0..4, got 5"),
        (lambda: KneserNey(np.array([1, -1, 2]), 5), ValueError, r"tokens\[1\] must be in 0..4, got -1"),
        (lambda: KneserNey(np.array([1.0, 2, 3]), 5), TypeError, "tokens must be integers, got float64"),
        (lambda: KneserNey(np.arange(5), 5, 3, 1.0), ValueError, "discount must be between 0 and 1, got 1.0"),
        (lambda: KneserNey(np.arange(5), 10_000, 5), ValueError, "order must be 4 or below with 10000 words"),
        (lambda: KneserNey(np.arange(5), 1_900_000, 4), ValueError, "order must be 3 or below with 1900000 "),
        (lambda: KneserNey(np.arange(5), 5, 0), ValueError, "order must be >= 1, got 0"),
        (lambda: KneserNey(np.arange(5), 5).perplexity(np.array([1])), ValueError, "with 2 at least"),
        (lambda: KneserNey(np.arange(5), 5).perplexity(np.array([1, 7])), ValueError, r"tokens\[1\] must"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, kind, line):
    with pytest.raises(kind, match=line):
        wrong()
