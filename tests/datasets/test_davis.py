"""The DAVIS346 recording: all its events, on the sensor, in order; refused when one byte is off."""

import shutil

import numpy as np
import pytest

from eventbook.datasets import EVENT, DataError, EventRecording, load_davis_recording, verify
from eventbook.datasets.storage.manifest import checkout

STORED = checkout() / "data" / "davis346" / "davis346_aedat.npz"


@pytest.fixture(scope="module")
def recording() -> EventRecording:
    return load_davis_recording()


def test_counts(recording):
    assert len(recording) == 78_830
    assert (recording.width, recording.height) == (346, 260)
    assert recording.duration == 2_359_945
    assert recording.events.dtype == EVENT
    assert recording.source.place == "data/davis346"


def test_events_lie_on_the_sensor_in_order(recording):
    events = recording.events
    assert (events["x"].min(), events["x"].max()) == (0, 345)
    assert (events["y"].min(), events["y"].max()) == (2, 259)
    assert np.unique(events["p"]).tolist() == [0, 1]
    gaps = np.diff(events["t"])
    assert gaps.min() == 0
    assert round(float((gaps == 0).mean()), 4) == 0.0197


def test_nothing_is_lost_on_the_way(recording):
    stored = np.load(STORED)
    np.testing.assert_array_equal(np.diff(recording.events["t"], prepend=0), stored["dt"])
    for name in ("x", "y", "p"):
        np.testing.assert_array_equal(recording.events[name], stored[name])


@pytest.fixture
def user_file(tmp_path, monkeypatch):
    """A user's own copy, in the upstream layout."""
    target = tmp_path / "davis346" / STORED.name
    target.parent.mkdir()
    shutil.copy(STORED, target)
    monkeypatch.setenv("EVENTBOOK_DATA", str(tmp_path))
    return target


def test_the_user_comes_first(user_file):
    assert load_davis_recording().source.origin == "user"


def test_one_corrupt_byte_is_found(user_file):
    raw = bytearray(user_file.read_bytes())
    raw[100_000] ^= 1
    user_file.write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"expected sha256 d9fc08c2.*found .*not used") as error:
        load_davis_recording()
    assert str(user_file) in str(error.value)
    assert "\n" not in str(error.value)
    assert [row.state for row in verify(["davis346"])] == ["corrupt"]


def test_a_truncated_file_is_found(user_file):
    user_file.write_bytes(user_file.read_bytes()[:-1_000])
    with pytest.raises(DataError, match="266735 bytes of 267735"):
        load_davis_recording()
