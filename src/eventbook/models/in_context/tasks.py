r"""Regression tasks to be solved from their context: N examples of an unknown map, then a query.

    x_1, ..., x_N, x_q  ~  U(-r/2, r/2)^f,    or rows of a table, drawn with replacement
    w ~ N(0, 1),        y = scale w x                              linear
    y = a sin(x + p),   a ~ U(0.1, 5),   p ~ U(0, pi)              sine, f = 1

    tokens = x_1, y_1, ..., x_N, y_N, x_q                          each in R^f

| symbol | meaning | shape | name |
|---|---|---|---|
| N, f | examples of a task, features of an input | number | `context`, `features` |
| x, y | inputs and outputs of the examples | (task, context, features), (task, context, outputs) | `x`, `y` |
| x_q, y_q | query and its answer | (task, features), (task, outputs) | `query`, `answer` |
| r | width of the uniform law | number | `input_range` |

Outputs that are fewer than the features stand in the last entries of their token, behind zeros. The loss is
half the squared error, averaged over tasks and outputs: at f outputs it is the released one.

The released generator of sines draws amplitude and phase with one random key, so that each is a function of
the other; `correlated_keys` does the same.

Source: arXiv:2410.11687, version 1, and its released code; ranges of the sine: Finn et al. 2017.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype

AMPLITUDES, PHASES = (0.1, 5.0), (0.0, math.pi)


class Tasks(NamedTuple):
    """A batch of tasks; see the module for the shapes."""

    x: Float[Tensor, "task context features"]
    y: Float[Tensor, "task context outputs"]
    query: Float[Tensor, "task features"]
    answer: Float[Tensor, "task outputs"]

    def tokens(self) -> Float[Tensor, "task time features"]:
        """The tasks as sequences of 2 context + 1 tokens.

        Raises
        ------
        ValueError
            If shapes do not fit, or there are more outputs than features.
        """
        sizes = axes(
            x=(self.x, "task context features"),
            y=(self.y, "task context outputs"),
            query=(self.query, "task features"),
        )
        missing = sizes["features"] - sizes["outputs"]
        if missing < 0:
            raise ValueError(f"y must have at most {sizes['features']} outputs, got {sizes['outputs']}")
        pairs = torch.stack([self.x, torch.nn.functional.pad(self.y, (missing, 0))], 2).flatten(1, 2)
        return torch.cat([pairs, self.query[:, None]], 1)


def half_square(
    prediction: Float[Tensor, "task width"], answer: Float[Tensor, "task outputs"]
) -> Float[Tensor, ""]:
    """Half the squared error of the last entries of a prediction, mean over tasks and outputs.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    sizes = axes(prediction=(prediction, "task width"), answer=(answer, "task outputs"))
    if sizes["outputs"] > sizes["width"]:
        raise ValueError(f"prediction must have {sizes['outputs']} entries or more, got {sizes['width']}")
    return (prediction[:, -sizes["outputs"] :] - answer).square().mean() / 2


def vector_tasks(
    count: int,
    *,
    context: int = 10,
    features: int = 10,
    input_range: float = 1.0,
    weight_scale: float = 1.0,
    generator: Generator | None = None,
) -> Tasks:
    """Linear tasks with as many outputs as features.

    Parameters
    ----------
    count, context, features
        Tasks, examples of each, size of a token.
    input_range, weight_scale
        r, and the factor of the map.
    generator
        Source of everything random; torch's own if not given.

    Raises
    ------
    ValueError
        If a size is below 1, or range or scale are not finite and > 0.
    TypeError
        If a size is no whole number.

    Examples
    --------
    >>> tasks = vector_tasks(64, generator=torch.Generator().manual_seed(0))
    >>> tasks.tokens().shape
    torch.Size([64, 21, 10])
    """
    x = _uniform(count, context, features, input_range, generator)
    return _linear(x, features, weight_scale, generator)


def scalar_tasks(
    count: int,
    *,
    context: int = 10,
    features: int = 10,
    input_range: float = 1.0,
    weight_scale: float = 1.0,
    generator: Generator | None = None,
) -> Tasks:
    """Linear tasks with one output; parameters and errors as `vector_tasks`."""
    x = _uniform(count, context, features, input_range, generator)
    return _linear(x, 1, weight_scale, generator)


def tasks_of_rows(
    count: int,
    rows: Float[Tensor, "row features"],
    *,
    context: int = 10,
    weight_scale: float = 1.0,
    generator: Generator | None = None,
) -> Tasks:
    """Linear tasks whose inputs are rows of a table, drawn with replacement.

    Parameters
    ----------
    rows
        Real inputs, one a row, centred: the closed forms take their mean for zero.
    count, context, weight_scale, generator
        As `vector_tasks`.

    Raises
    ------
    ValueError
        If there are no rows, one is not finite (names the first), or as `vector_tasks`.
    TypeError
        If rows are no floating-point tensor.
    """
    features = axes(rows=(rows, "row features"))["features"]
    same_dtype(FLOATING, rows=rows)
    if not len(rows):
        raise ValueError("rows must be at least one, got none")
    if (broken := ~rows.isfinite().all(1)).any():
        raise ValueError(f"rows must be finite, got {int(broken.int().argmax())} as the first that is not")
    for name, size in (("count", count), ("context", context)):
        whole(size, name, 1)
    chosen = torch.randint(len(rows), (count, context + 1), generator=generator)
    return _linear(rows[chosen], features, weight_scale, generator)


def sine_tasks(
    count: int,
    *,
    context: int = 10,
    input_range: float = 10.0,
    correlated_keys: bool = False,
    generator: Generator | None = None,
) -> Tasks:
    """Sines of random amplitude and phase, one number in and one out.

    Parameters
    ----------
    count, context, input_range, generator
        As `vector_tasks`. At a range of 1 the sines are almost lines.
    correlated_keys
        Amplitude and phase from one and the same random number, as released.

    Raises
    ------
    ValueError, TypeError
        As `vector_tasks`.
    """
    x = _uniform(count, context, 1, input_range, generator)
    first = torch.rand(count, 1, 1, generator=generator)
    second = torch.rand(count, 1, 1, generator=generator)
    amplitude = AMPLITUDES[0] + (AMPLITUDES[1] - AMPLITUDES[0]) * first
    phase = PHASES[0] + (PHASES[1] - PHASES[0]) * (first if correlated_keys else second)
    y = amplitude * torch.sin(x + phase)
    return Tasks(x[:, :-1], y[:, :-1], x[:, -1], y[:, -1])


def _uniform(
    count: int, context: int, features: int, input_range: float, generator: Generator | None
) -> Float[Tensor, "task examples features"]:
    """Inputs of the examples and of the query."""
    for name, size in (("count", count), ("context", context), ("features", features)):
        whole(size, name, 1)
    _positive(input_range, "input_range")
    return input_range * (torch.rand(count, context + 1, features, generator=generator) - 0.5)


def _linear(x: Tensor, outputs: int, weight_scale: float, generator: Generator | None) -> Tasks:
    _positive(weight_scale, "weight_scale")
    weight = weight_scale * torch.randn(len(x), outputs, x.shape[2], generator=generator, dtype=x.dtype)
    y = x @ weight.mT
    return Tasks(x[:, :-1], y[:, :-1], x[:, -1], y[:, -1])


def _positive(value: float, name: str) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be finite and > 0, got {value}")
