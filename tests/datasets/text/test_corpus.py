"""Ids are ranks: a smaller vocabulary is the same text, and what makes no sense is refused."""

from typing import Any

import numpy as np
import pytest

from eventbook.datasets import DataError, Source
from eventbook.datasets.text.corpus import END, UNKNOWN, Corpus, corpus_of

SOURCE = Source("small", "A small text", "user", "nowhere", checked=False)
TEXT = ["b", "a", "a", "c", "b", "a", "<eos>", "d", "d", "c", "<eos>"]


def small(words: int | None = None, **parts: list[str]) -> Corpus:
    given = {"train": TEXT, "valid": ["a", "e", END], "test": ["d", UNKNOWN]} | parts
    return corpus_of(given, SOURCE, words)


def test_ids_are_ranks_with_ties_in_alphabetical_order():
    corpus = small()
    assert corpus.vocabulary == (UNKNOWN, END, "a", "b", "c", "d")
    assert corpus.train.tolist() == [3, 2, 2, 4, 3, 2, 1, 5, 5, 4, 1]
    assert corpus.valid.tolist() == [2, 0, 1]
    assert corpus.test.tolist() == [5, 0]
    assert corpus.train.dtype == np.int32
    assert corpus.words(corpus.train) == TEXT


def test_an_unknown_mark_in_the_text_is_the_mark():
    assert small(train=["a", UNKNOWN, UNKNOWN, UNKNOWN]).vocabulary == (UNKNOWN, END, "a")


@pytest.mark.parametrize("words", [1, 2, 3, 4])
def test_fewer_words_are_a_smaller_vocabulary_of_the_same_text(words):
    few, built = small().with_words(words), small(words)
    assert few.vocabulary == built.vocabulary
    for part in ("train", "valid", "test"):
        assert few.part(part).tolist() == built.part(part).tolist()
        assert few.part(part).dtype == np.int32
    assert few.unknown_share("train") == sum(w not in few.vocabulary for w in TEXT) / len(TEXT)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda: small(valid=[]), "A small text: expected tokens in its part 'valid', found none"),
        (lambda: small().with_words(5), "words: expected 1..4, got 5"),
        (lambda: small().with_words(0), "words: expected 1..4, got 0"),
        (lambda: small().with_words(2.5), "words: expected a whole number, got 2.5"),
        (lambda: small().part("dev"), "part: expected one of train, valid, test, got 'dev'"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any, line: str):
    with pytest.raises(DataError) as caught:
        wrong()
    assert str(caught.value) == line
