"""Penn Treebank and WikiText-2, word by word, from the text files that everybody uses and a user supplies.

Folders are looked for below the directory in ``EVENTBOOK_DATA``, then below ``data/originals``:

=================  =======================================================================================
``penn_treebank``  ``ptb/`` or ``penn/`` or ``simple-examples/data/``: ``ptb.{train,valid,test}.txt``
``wikitext2``      ``wikitext-2/``: ``wiki.{train,valid,test}.tokens``
``wikitext2``      or ``wikitext-2-v1/``: ``{train,validation,test}-00000-of-00001.parquet``, as
                   ``Salesforce/wikitext`` has them; needs pyarrow
=================  =======================================================================================

Every line of either is closed by ``<eos>``, an empty one too, as language models have read them since
AWD-LSTM. Both have ``<unk>`` written in. With the two marks the treebank has 10,000 words and WikiText-2
33,278. Neither is in the manifest, so that nothing vouches for the files of a user: the source says so.

Source: Mikolov et al. 2010 (the treebank as prepared there); Merity et al. 2017 (WikiText-2).
"""

from pathlib import Path
from typing import Literal

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.extras import extra_module
from eventbook.datasets.storage.folders import Place, find_folder
from eventbook.datasets.storage.store import Source
from eventbook.datasets.text.corpus import END, PARTS, Corpus, corpus_of

TITLES = {"penn_treebank": "Penn Treebank", "wikitext2": "WikiText-2"}
PARQUET = {"train": "train", "valid": "validation", "test": "test"}


def load_text_original(name: Literal["penn_treebank", "wikitext2"], *, words: int | None = None) -> Corpus:
    """Load an original from a user's files.

    Parameters
    ----------
    name : "penn_treebank" or "wikitext2"
    words : int, optional
        Size of the vocabulary without its two marks; every word of the training part by default.

    Raises
    ------
    DataError
        If there is no such original, files are missing, no text, or empty.
    """
    if name not in TITLES:
        raise DataError(f"name: expected one of {', '.join(TITLES)}; got {name!r}")
    place, lines = _penn_treebank() if name == "penn_treebank" else _wikitext2()
    tokens = {part: [word for line in lines[part] for word in (*line.split(), END)] for part in PARTS}
    source = Source(name, TITLES[name], place.origin, place.shown, checked=False)
    corpus = corpus_of(tokens, source)
    return corpus if words is None else corpus.with_words(words)


def _penn_treebank() -> tuple[Place, dict[str, list[str]]]:
    folders = ("ptb", "penn", "simple-examples/data")
    place = find_folder(TITLES["penn_treebank"], folders, "ptb.train.txt")
    return place, {part: _lines(place.folder / f"ptb.{part}.txt") for part in PARTS}


def _wikitext2() -> tuple[Place, dict[str, list[str]]]:
    """Its text files, or else its parquet files."""
    title = TITLES["wikitext2"]
    try:
        place = find_folder(title, ("wikitext-2",), "wiki.train.tokens")
    except DataError as missing:
        try:
            place = find_folder(title, ("wikitext-2-v1",), "train-*.parquet")
        except DataError:
            raise missing from None
        return place, {part: _rows(place.folder, PARQUET[part]) for part in PARTS}
    return place, {part: _lines(place.folder / f"wiki.{part}.tokens") for part in PARTS}


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            return list(file)  # ends at newlines alone: a form feed within a line ends none
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _rows(folder: Path, stem: str) -> list[str]:
    """The column ``text`` of one or several parquet files, a line a row."""
    parquet = extra_module("pyarrow.parquet", "originals")
    paths = sorted(folder.glob(f"{stem}-*.parquet"))
    if not paths:
        raise DataError(f"{folder}: expected {stem}-*.parquet, found none")
    lines: list[str] = []
    for path in paths:
        try:
            lines += parquet.read_table(path, columns=["text"])["text"].to_pylist()
        except Exception as error:  # pyarrow's errors have no common class
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: cannot be read as a table with a column text: {reason}") from error
    return lines
