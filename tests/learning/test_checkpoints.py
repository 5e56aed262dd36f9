"""A checkpoint is whole, belongs to what wrote it, and says what is wrong otherwise."""

from pathlib import Path

import numpy as np
import pytest
import torch

from eventbook.learning.checkpoints import digest, read_checkpoint, write_checkpoint

ABOUT = {"recipe": {"lr": 0.1, "seed": 3}, "model": {"size": [4, 5]}}


def test_round_trip(tmp_path: Path):
    path = tmp_path / "new" / "run.pt"
    assert read_checkpoint(path, ABOUT, ("weights", "step")) is None
    write_checkpoint(path, ABOUT, {"weights": {"w": torch.arange(3)}, "step": 7, "more": 1})
    state = read_checkpoint(path, ABOUT, ("weights", "step"))
    assert state is not None
    assert set(state) == {"weights", "step"}
    assert state["step"] == 7
    assert state["weights"]["w"].tolist() == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]


def test_an_interrupted_writing_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run.pt"
    write_checkpoint(path, ABOUT, {"step": 1})
    whole = path.read_bytes()

    def breaks_off(state: object, where: Path) -> None:
        where.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, ABOUT, {"step": 2})
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize(
    ("about", "line"),
    [
        ({**ABOUT, "recipe": {"lr": 0.2, "seed": 3}}, r"of this recipe, .*run\.pt has lr = 0\.1, not 0\.2"),
        ({**ABOUT, "recipe": {"lr": 0.1}}, r"of this recipe, .*run\.pt has seed = 3, not none"),
        ({**ABOUT, "model": {"size": [4, 5], "axes": 2}}, r"of this model, .*run\.pt has axes = none, not 2"),
        ({**ABOUT, "text": {"sha256": "0"}}, r"a file that this function wrote, got .*run\.pt: 'text'"),
    ],
)
def test_of_something_else(tmp_path: Path, about: dict, line: str):
    path = tmp_path / "run.pt"
    write_checkpoint(path, ABOUT, {"step": 1})
    with pytest.raises(ValueError, match=line):
        read_checkpoint(path, about, ("step",))


def test_broken_files(tmp_path: Path):
    path = tmp_path / "run.pt"
    write_checkpoint(path, ABOUT, {"step": 1})
    whole = path.read_bytes()
    for broken in (whole[:-40], b"", b"text"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"a file that this function wrote, got .*run\.pt: ") as caught:
            read_checkpoint(path, ABOUT, ("step",))
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == broken
    with pytest.raises(ValueError, match=r"checkpoint must be a file, .* is a folder"):
        read_checkpoint(tmp_path, ABOUT, ("step",))
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="'weights'"):
        read_checkpoint(path, ABOUT, ("step", "weights"))


def test_a_digest_is_of_the_integers_in_their_order():
    words = np.array([3, 1, 2, 70_000], np.int32)
    assert digest(words) == digest(words.astype(np.uint64)) == digest(torch.from_numpy(words))
    assert digest(words) == digest(np.repeat(words, 2)[::2])  # a view with gaps
    assert digest(words) == "adc152c1bff3093fa2d357ee10dab8692bbfac4371c673faf5a42e946ac2a33c"
    assert len({digest(its) for its in (words, words[::-1].copy(), words[:-1], words + 1)}) == 4


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones(3, bool), torch.ones(3, dtype=torch.complex64)])
def test_what_is_no_integer_has_no_digest(wrong: object):
    with pytest.raises(TypeError, match="tokens must be integers, got torch"):
        digest(wrong)  # type: ignore[arg-type]
