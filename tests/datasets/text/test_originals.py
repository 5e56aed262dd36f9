"""The two originals in their true formats, on small files written here."""

from pathlib import Path

import pytest

from eventbook.datasets import TEXTS, DataError, load_text, load_text_original
from eventbook.datasets.text.corpus import END, UNKNOWN

PTB = {
    "train": " aer banknote berlitz <unk> N \n <unk> banknote N N\n",
    "valid": " banknote aer\n",
    "test": " N berlitz\n",
}
WIKI = " \n = Valkyria Chronicles = \n \n Senjō no <unk> @-@ 3 \n"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVENTBOOK_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("folder", ["ptb", "penn", "simple-examples/data"])
def test_penn_treebank(user: Path, folder: str):
    (user / folder).mkdir(parents=True)
    for part, text in PTB.items():
        (user / folder / f"ptb.{part}.txt").write_text(text)
    corpus = load_text("penn_treebank")
    assert corpus.vocabulary == (UNKNOWN, END, "N", "banknote", "aer", "berlitz")
    assert corpus.words(corpus.train) == [
        *(["aer", "banknote", "berlitz", "<unk>", "N", "<eos>"]),
        *(["<unk>", "banknote", "N", "N", "<eos>"]),
    ]
    assert corpus.source.origin == "user"
    assert not corpus.source.checked
    assert folder in str(corpus.source)
    assert len(load_text_original("penn_treebank", words=2).vocabulary) == 4


def test_wikitext2_as_text(user: Path):
    (user / "wikitext-2").mkdir()
    for part in ("train", "valid", "test"):
        (user / "wikitext-2" / f"wiki.{part}.tokens").write_text(WIKI, encoding="utf-8")
    corpus = load_text("wikitext2")
    assert corpus.words(corpus.train) == [
        *(END, "=", "Valkyria", "Chronicles", "=", END, END),
        *("Senjō", "no", UNKNOWN, "@-@", "3", END),
    ]


def test_lines_end_at_newlines_alone(user: Path):
    """As reading a file line by line has it; `str.splitlines` ends them at form feeds, too."""
    (user / "wikitext-2").mkdir()
    for part in ("train", "valid", "test"):
        text = "a\x0cb c\x85d e\u2028f\n\ng\n"
        (user / "wikitext-2" / f"wiki.{part}.tokens").write_text(text, encoding="utf-8")
    corpus = load_text("wikitext2")
    assert corpus.words(corpus.train) == ["a", "b", "c", "d", "e", "f", END, END, "g", END]


def test_wikitext2_as_parquet_is_the_same_text(user: Path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (user / "wikitext-2-v1").mkdir()
    table = pa.table({"text": WIKI.splitlines(keepends=True)})
    for part in ("train", "validation", "test"):
        parquet.write_table(table, user / "wikitext-2-v1" / f"{part}-00000-of-00001.parquet")
    corpus = load_text("wikitext2")
    (user / "wikitext-2").mkdir()
    for part in ("train", "valid", "test"):
        (user / "wikitext-2" / f"wiki.{part}.tokens").write_text(WIKI, encoding="utf-8")
    text = load_text("wikitext2")
    assert corpus.vocabulary == text.vocabulary
    assert corpus.valid.tolist() == text.valid.tolist()
    assert corpus.source.place != text.source.place


def test_what_is_missing_or_broken_is_said(user: Path):
    with pytest.raises(DataError, match=r"Penn Treebank: expected ptb/ptb\.train\.txt below .*found none"):
        load_text("penn_treebank")
    with pytest.raises(DataError, match=r"WikiText-2: expected wikitext-2/wiki\.train\.tokens below"):
        load_text("wikitext2")
    (user / "ptb").mkdir()
    (user / "ptb" / "ptb.train.txt").write_text("a b\n")
    with pytest.raises(DataError, match=r"ptb\.valid\.txt: cannot be read"):
        load_text("penn_treebank")
    (user / "ptb" / "ptb.valid.txt").write_text("")
    (user / "ptb" / "ptb.test.txt").write_bytes(b"\xff\xfe a")
    with pytest.raises(DataError, match=r"ptb\.test\.txt: cannot be read"):
        load_text("penn_treebank")
    (user / "ptb" / "ptb.test.txt").write_text("a\n")
    with pytest.raises(DataError, match="Penn Treebank: expected tokens in its part 'valid', found none"):
        load_text("penn_treebank")


def test_a_broken_table_is_said(user: Path):
    pytest.importorskip("pyarrow.parquet")
    (user / "wikitext-2-v1").mkdir()
    (user / "wikitext-2-v1" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet: cannot be read as a table"):
        load_text("wikitext2")


def test_other_names_are_refused():
    with pytest.raises(DataError, match=rf"expected one of {', '.join(TEXTS)}; got 'enwik8'"):
        load_text("enwik8")
    with pytest.raises(DataError, match="expected one of penn_treebank, wikitext2; got 'state_of_the_union'"):
        load_text_original("state_of_the_union")  # type: ignore[arg-type]
