"""One door to all texts, so that a notebook needs a single parameter to run on an original.

Source: derived.
"""

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.text.corpus import Corpus
from eventbook.datasets.text.originals import load_text_original
from eventbook.datasets.text.state_of_the_union import load_state_of_the_union

TEXTS = ("state_of_the_union", "penn_treebank", "wikitext2")


def load_text(name: str, *, words: int | None = None) -> Corpus:
    """Load a text by its name.

    Parameters
    ----------
    name : str
        One of `TEXTS`: ``"state_of_the_union"``, which is here, or an original that a user supplies.
    words : int, optional
        Size of the vocabulary without its two marks; that of the text by default.

    Raises
    ------
    DataError
        If there is no such text, it has not so many words, or it cannot be read.

    Examples
    --------
    >>> len(load_text("state_of_the_union", words=2_000).vocabulary)
    2002
    """
    if name == "state_of_the_union":
        corpus = load_state_of_the_union()
        return corpus if words is None else corpus.with_words(words)
    if name in TEXTS:
        return load_text_original(name, words=words)  # type: ignore[arg-type]  # one of the two that are left
    raise DataError(f"name: expected one of {', '.join(TEXTS)}; got {name!r}")
