"""Originals in their true formats, written here small: read by tonic, without downloads or archives."""

import numpy as np
import pytest

from eventbook.datasets import DataError, load_event_original, load_event_streams
from eventbook.datasets.streams import event_originals


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The directory that a user names; no network, whatever tonic tries."""
    monkeypatch.setenv("EVENTBOOK_DATA", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to download")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return tmp_path


@pytest.fixture
def tonic():
    return pytest.importorskip("tonic", reason="tonic reads the originals", exc_type=ImportError)


def write_hsd(path, clips, labels, classes) -> None:
    """A file of SHD or SSC: ragged spikes, seconds in half precision."""
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            rows = file.create_dataset(f"spikes/{name}", (len(clips),), h5py.vlen_dtype(kind))
            for i, clip in enumerate(clips):
                rows[i] = np.array(clip[name], kind)
        file["labels"] = np.array(labels, np.uint16)
        file["extra/keys"] = np.array(classes, "S")
        file["extra/speaker"] = np.arange(len(clips), dtype=np.uint16)


CLIPS = [
    {"times": [0.0, 0.25, 0.25, 0.5], "units": [3, 699, 0, 7]},
    {"times": [0.5, 0.125], "units": [1, 2]},  # not in order
    {"times": [], "units": []},
]


@pytest.mark.parametrize(
    "name, file, split",
    [
        ("shd", "SHD/shd_train.h5", "train"),
        ("shd", "SHD/shd_test.h5", "test"),
        ("ssc", "SSC/ssc_train.h5", "train"),
        ("ssc", "SSC/ssc_valid.h5", "valid"),
        ("ssc", "SSC/ssc_test.h5", "test"),
    ],
)
def test_channels_in_half_precision_seconds(root, tonic, name, file, split):
    write_hsd(root / file, CLIPS, [1, 0, 1], ["null", "eins"])
    streams = load_event_original(name, split)
    assert [(token.tolist(), stamp.tolist()) for token, stamp in streams] == [
        ([3, 699, 0, 7], [0, 250_000, 250_000, 500_000]),
        ([2, 1], [125_000, 500_000]),
        ([], []),
    ]
    assert streams.labels.tolist() == [1, 0, 1]
    assert (streams.n_tokens, streams.sensor, streams.classes) == (700, None, ("null", "eins"))
    folder = file.split("/")[0]
    assert str(streams.source).endswith(
        f"from the directory named by the user ($EVENTBOOK_DATA/{folder}), not checked; read by tonic"
    )


def write_nmnist(folder, digits) -> None:
    """Files of N-MNIST: five bytes an event, x, y, polarity and 23 bits of microseconds."""
    for number, (digit, events) in enumerate(digits):
        path = folder / str(digit) / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for x, y, t, p in events]
        path.write_bytes(b"".join(rows))


def test_nmnist(root, tonic):
    seven = [(0, 0, 5, 1), (33, 33, 5, 0), (1, 2, 299_999, 1)]
    write_nmnist(root / "NMNIST" / "Train", [(7, seven), (3, seven[:1])])
    streams = load_event_original("nmnist", "train")
    assert streams.labels.tolist() == [3, 7]  # in the order of folders
    token, stamp = streams[1]
    assert token.tolist() == [1, (33 * 34 + 33) * 2, (2 * 34 + 1) * 2 + 1]
    assert stamp.tolist() == [5, 5, 299_999]
    assert (streams.n_tokens, streams.sensor, len(streams.classes)) == (2_312, (34, 34), 10)
    assert token.max() == streams.n_tokens - 2


def test_an_event_off_the_sensor_is_named(root, tonic):
    write_nmnist(root / "NMNIST" / "Test", [(0, [(0, 0, 1, 0), (34, 1, 2, 0)])])
    with pytest.raises(
        DataError, match=r"stream 0 of test: expected events on 34 x 34, got \(34, 1\) for event 1"
    ):
        load_event_original("nmnist", "test")


def write_gestures(folder, recordings) -> None:
    """Arrays of DVS128 Gesture as tonic's archive holds them: x, y, polarity, milliseconds."""
    for (user, label), events in recordings.items():
        path = folder / user / f"{label}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.array(events, np.float64))


def test_dvs128(root, tonic):
    write_gestures(
        root / "DVSGesture" / "ibmGestureTrain",
        {
            ("user10_led", 3): [(0, 0, 0, 4)],
            ("user02_lab", 10): [(127, 1, 1, 2), (5, 127, 0, 7)],
            ("user02_lab", 2): [(1, 0, 1, 9), (2, 0, 1, 3)],  # not in order
        },
    )
    streams = load_event_original("dvs128", "train")
    assert streams.labels.tolist() == [2, 10, 3]
    assert [token.tolist() for token, _ in streams] == [
        [5, 3],
        [(128 + 127) * 2 + 1, (127 * 128 + 5) * 2],
        [0],
    ]
    assert [stamp.tolist() for _, stamp in streams] == [[3_000, 9_000], [2_000, 7_000], [4_000]]
    assert (streams.n_tokens, streams.sensor, len(streams.classes)) == (32_768, (128, 128), 11)


def test_some_streams_by_lot(root, tonic):
    write_nmnist(root / "NMNIST" / "Train", [(d, [(d, d, 1, 0)]) for d in range(10)])
    some = load_event_original("nmnist", "train", count=4, seed=1)
    assert len(set(some.labels.tolist())) == 4
    assert some.labels.tolist() == sorted(some.labels.tolist())
    assert [int(token[0]) for token, _ in some] == [(d * 34 + d) * 2 for d in some.labels]
    again, other = (load_event_streams("nmnist", "train", count=4, seed=seed) for seed in (1, 2))
    assert again.labels.tolist() == some.labels.tolist()
    assert other.labels.tolist() != some.labels.tolist()
    for options, said in (
        ({"count": 11}, "count: expected 1..10, got 11"),
        ({"count": 0}, "count: expected 1..10, got 0"),
        ({"count": 1, "seed": -1}, "seed: expected 0 or above, got -1"),
        ({"count": 1.5}, "expected whole numbers"),
    ):
        with pytest.raises(DataError, match=said):
            load_event_original("nmnist", "train", **options)


def test_a_broken_file_is_named(root, tonic):
    path = root / "SHD" / "shd_test.h5"
    path.parent.mkdir()
    path.write_bytes(b"<html>moved</html>")
    with pytest.raises(
        DataError, match=r"SHD: expected Spiking Heidelberg Digits as tonic stores it"
    ) as error:
        load_event_original("shd", "test")
    assert "\n" not in str(error.value)


def test_tonic_itself_would_have_downloaded(root, tonic, monkeypatch):
    """The negative control: over the same files tonic asks for its archive."""
    write_hsd(root / "SHD" / "shd_train.h5", CLIPS, [1, 0, 1], ["null", "eins"])
    from tonic import dataset

    asked = []
    monkeypatch.setattr(dataset, "download_and_extract_archive", lambda url, *_, **__: asked.append(url))
    import tonic.datasets

    tonic.datasets.SHD(str(root), train=True)
    assert asked == ["https://zenkelab.org/datasets/shd_train.h5.zip"]
    load_event_original("shd", "train")
    assert len(asked) == 1


@pytest.mark.parametrize(
    "name, split, said",
    [
        ("cifar", "train", "name: expected one of shd, ssc, dvs128, nmnist; got 'cifar'"),
        (
            "shd",
            "valid",
            "split: shd has train, test; got 'valid'; its authors published no validation split",
        ),
        ("dvs128", "valid", "split: dvs128 has train, test; got 'valid'; its authors published no"),
        ("ssc", "dev", "split: ssc has train, valid, test; got 'dev'$"),
        ("ssc", "valid", "Spiking Speech Commands: expected SSC/ssc_valid.h5 below .* nothing is downloaded"),
        ("nmnist", "test", r"N-MNIST: expected NMNIST/Test/\*/\*.bin below"),
    ],
)
def test_bad_arguments_and_missing_files(root, project, name, split, said):
    with pytest.raises(DataError, match=said) as error:
        load_event_original(name, split)
    assert "\n" not in str(error.value)


def test_without_tonic_the_extra_is_named(root, monkeypatch):
    write_nmnist(root / "NMNIST" / "Train", [(7, [(0, 0, 1, 0)])])

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'tonic'", name="tonic")

    monkeypatch.setattr("eventbook.datasets.storage.extras.import_module", missing)
    with pytest.raises(DataError, match=r"holds tonic, found none: pip install 'eventbook\[originals\]'"):
        event_originals.load_event_original("nmnist", "train")
