"""The one error of the data layer: something about a data set is not as ``data/manifest.yml`` says."""


class DataError(ValueError):
    """A data set, its manifest or its download is unusable; the message is one line that says why."""
