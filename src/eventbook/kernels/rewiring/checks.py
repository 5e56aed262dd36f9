"""What the kernels of this room rely on, checked at their doors; the arguments are those of the kernels.

K connections are vectors of one length, their indices ascend below the number of potential connections.
Lanes are (feature, lane) arrays whose lanes are 0, 1 or a multiple of 16.
"""

from typing import Any

import numpy as np

from eventbook.kernels.machinery.indices import check_index, check_places, check_vectors, int64_vector
from eventbook.kernels.machinery.lanes import LANES

FLOATS = np.dtype(np.float32), np.dtype(np.float64)
Array = Any  # NumPy's, of any dtype that the kernel compiles for


def _check_count(name: str, count: int, least: int, most: int, meaning: str) -> None:
    if not least <= count <= most:
        raise ValueError(f"{name} must be between {least} and {most}, {meaning}, got {count}")


def _check_values(theta: Array, **others: Array) -> None:
    """Numbers of a dtype that moves in small steps, and vectors of its length."""
    check_vectors(theta=theta, **others)
    if theta.dtype not in FLOATS:
        raise ValueError(f"theta must be float32 or float64, got {theta.dtype}")


# --- steps -------------------------------------------------------------------------------------------------


def check_connections(theta: Array, index: Array, potential: int, *_: Any, **__: Any) -> None:
    """K values and K indices below `potential`."""
    _check_values(theta, index=index)
    check_index(index, potential)


def check_half(theta: Array, index: Array, potential: int, *_: Any, **__: Any) -> None:
    """As `check_connections`, and as many dormant connections as there are stored ones."""
    check_connections(theta, index, potential)
    if 2 * theta.size > potential:
        raise ValueError(
            f"theta must have at most potential / 2 = {potential // 2} connections for a lottery without the "
            f"dropped, got {theta.size}"
        )


def check_step(theta: Array, index: Array, gradient: Array, potential: int, *_: Any, **__: Any) -> None:
    """Connections and a gradient for each."""
    check_vectors(theta=theta, gradient=gradient)
    check_connections(theta, index, potential)


def check_half_step(theta: Array, index: Array, gradient: Array, potential: int, *_: Any, **__: Any) -> None:
    """As `check_step`, for the lottery without the dropped."""
    check_vectors(theta=theta, gradient=gradient)
    check_half(theta, index, potential)


def check_update(theta: Array, gradient: Array, index: Array, *_: Any, **__: Any) -> None:
    """K values, gradients and indices; the number of potential connections plays no part."""
    _check_values(theta, gradient=gradient, index=index)
    check_index(index)


def check_gradient(theta: Array, gradient: Array, *_: Any, **__: Any) -> None:
    """A gradient for each theta."""
    _check_values(theta, gradient=gradient)


def check_keep(keep: Array, values: Array, index: Array) -> None:
    """A truth value for each connection."""
    check_vectors(values=values, keep=keep, index=index)
    check_index(index)
    if keep.dtype != np.bool_:
        raise ValueError(f"keep must be bool, got {keep.dtype}")


def check_drop(theta: Array, index: Array) -> None:
    """K values and K indices."""
    check_vectors(theta=theta, index=index)
    check_index(index)


def check_parallel(theta: Array, index: Array, potential: int) -> None:
    """K values and K indices of any kind: whether they are good is what the kernel finds out."""
    check_vectors(theta=theta, index=index)
    int64_vector(index, "index")


def check_ranks(n: int, size: int, key: int, ranks: Array) -> None:
    """n distinct ranks exist, and there is room for them."""
    int64_vector(ranks, "ranks")
    _check_count("n", n, 0, size, "as many ranks as there are")
    _check_count("n", n, 0, ranks.size, "the length of ranks")


def check_dormant(ranks: Array, taken: Array) -> None:
    """Both ascend."""
    check_index(ranks, name="ranks")
    check_index(taken, name="taken")


def check_insert(theta: Array, index: Array, kept: int, new: Array) -> None:
    """The kept and the new ones have room, ascend, and differ."""
    check_vectors(theta=theta, index=index)
    check_index(new, name="new")
    _check_count("kept", kept, 0, theta.size - new.size, "so that the new ones have room")
    check_index(index[:kept])
    if np.isin(new, index[:kept]).any():
        raise ValueError(
            f"new must be connections that are not kept, got {np.intersect1d(new, index[:kept])}"
        )


def check_refill(theta: Array, index: Array, kept: int, potential: int, key: int) -> None:
    """The kept ones are connections, and enough others exist."""
    check_vectors(theta=theta, index=index)
    _check_count("kept", kept, 0, theta.size, "the length of theta")
    check_index(index[:kept], potential)
    _check_count("theta.size", theta.size, 0, potential, "as many connections as exist")


def check_layers(n: int, score: Array, room: Array, *_: Any, **__: Any) -> None:
    """The layers have room for n connections."""
    check_vectors(score=score, room=room)
    check_places(room, np.iinfo(np.int64).max, "room")
    if not (np.isfinite(score).all() and (score >= 0).all()):
        raise ValueError(f"score must be finite and >= 0, got {score}")
    _check_count("n", n, 0, int(room.sum()), "the room of all layers")


# --- products ----------------------------------------------------------------------------------------------


def _check_matrix(name: str, array: Array, rows: int | None = None, columns: int | None = None) -> None:
    fits = array.ndim == 2 and rows in (None, array.shape[0]) and columns in (None, array.shape[1])
    if not (fits and array.dtype in FLOATS):
        expected = ", ".join("any" if size is None else str(size) for size in (rows, columns))
        raise ValueError(
            f"{name} must be ({expected}) of float32 or float64, got {array.shape} of {array.dtype}"
        )


def _check_lanes(name: str, lanes: Array, batch: int) -> None:
    """Lanes for this batch, as `to_lanes` makes them."""
    width = batch if batch < 2 else -(-batch // LANES) * LANES
    _check_matrix(name, lanes, columns=width)


def check_batch(x: Array) -> None:
    """(batch, n), of floats."""
    _check_matrix("x", x)


def check_from_lanes(lanes: Array, out: Array) -> None:
    """(n, lanes) for an output (batch, n)."""
    _check_matrix("out", out)
    _check_lanes("lanes", lanes, out.shape[0])
    _check_matrix("lanes", lanes, rows=out.shape[1])


def check_product(x_lanes: Array, weight: Array, index: Array, y: Array) -> None:
    """Connections between the inputs in x_lanes (n_in, lanes) and the outputs of y (batch, n_out)."""
    _check_matrix("y", y)
    _check_lanes("x_lanes", x_lanes, y.shape[0])
    check_vectors(weight=weight, index=index)
    check_index(index, x_lanes.shape[0] * y.shape[1])


def check_weight_gradient(y_gradient: Array, x_lanes: Array, index: Array, weight_gradient: Array) -> None:
    """As `check_product`, with room for K gradients."""
    _check_matrix("y_gradient", y_gradient)
    _check_lanes("x_lanes", x_lanes, y_gradient.shape[0])
    check_vectors(weight_gradient=weight_gradient, index=index)
    check_index(index, x_lanes.shape[0] * y_gradient.shape[1])


def check_gradients(
    y_gradient: Array, x_lanes: Array, weight: Array, index: Array, weight_gradient: Array, x_gradient: Array
) -> None:
    """As `check_weight_gradient`, with room for the gradient of the input."""
    check_weight_gradient(y_gradient, x_lanes, index, weight_gradient)
    check_vectors(weight=weight, index=index)
    _check_matrix("x_gradient", x_gradient, y_gradient.shape[0], x_lanes.shape[0])


# --- network -----------------------------------------------------------------------------------------------


def check_loss(logits: Array, labels: Array, chosen: Array, delta: Array) -> None:
    """Examples that exist, with classes that exist, no more of them than lanes."""
    _check_matrix("logits", logits)
    _check_matrix("delta", delta, *logits.shape)
    _check_count("chosen.size", chosen.size, 1, logits.shape[1], "the number of lanes")
    check_places(chosen, int64_vector(labels, "labels").size, "chosen")
    check_places(labels[chosen], logits.shape[0], "labels")


def check_network(
    images: Array, labels: Array, chosen: Array,
    weight: Any, index: Any, activity: Any, delta: Any, gradient: Any,
) -> None:  # fmt: skip
    """A chain of layers, scratch of the right shapes, and examples that exist."""
    for name, parts in (("index", index), ("gradient", gradient)):
        if len(parts) != len(weight):
            raise ValueError(f"{name} must have one array per layer, {len(weight)}, got {len(parts)}")
    for name, parts in (("activity", activity), ("delta", delta)):
        if len(parts) != len(weight) + 1:
            raise ValueError(f"{name} must have one array per layer and the input, got {len(parts)}")
    _check_matrix("images", images, columns=activity[0].shape[0])
    check_vectors(labels=labels, images=images[:, 0])
    for layer, (k, below, above) in enumerate(zip(index, activity, activity[1:], strict=False)):
        of_layer = f"index of layer {layer}"
        check_vectors(
            **{f"weight of layer {layer}": weight[layer], of_layer: k, "its gradient": gradient[layer]}
        )
        check_index(k, below.shape[0] * above.shape[0], of_layer)
    for name, parts in (("activity", activity), ("delta", delta)):
        for number, part in enumerate(parts):
            _check_lanes(f"{name} {number}", part, chosen.size)
            _check_matrix(f"{name} {number}", part, rows=activity[number].shape[0])
    check_loss(activity[-1], labels, chosen, delta[-1])
