"""The door to point clouds: the loader's result, and one line for a wrong name or option."""

import numpy as np
import pytest

from eventbook.datasets import DataError, load_cad_parts, load_points


def test_it_is_the_loader():
    through, direct = (
        load_points("cad_parts", "test", by="random", seed=2),
        load_cad_parts("test", by="random", seed=2),
    )
    np.testing.assert_array_equal(through.points, direct.points)


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("cad", {}, "name: expected one of cad_parts, modelnet40, scanobjectnn; got 'cad'"),
        ("cad_parts", {"points": 64}, "points: cad_parts has no such option; it has: by, seed, fold"),
        ("modelnet40", {"by": "x"}, "by: modelnet40 has no such option; it has: points, variant, seed"),
    ],
)
def test_a_wrong_name_or_option_is_one_line(name, options, said):
    with pytest.raises(DataError) as error:
        load_points(name, "train", **options)
    assert str(error.value) == said
