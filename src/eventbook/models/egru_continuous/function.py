r"""The event-based GRU in continuous time as one differentiable function of a stream.

    tau_m c' = u (z - c)      tau_s a_X' = -a_X + b_X,  X in {u, r, z}      u = sig(a_u)   z = tanh(a_z)
    unit n fires when c_n reaches theta_n, sends v = c_n (graded) or 1 (unit), and c_n goes back to 0;
    every target m then has   a_u,m += W^u_nm v    a_r,m += W^r_nm v    a_z,m += W^z_nm r v
    external event: the same with a value of its own, 1 if none is given

| symbol | meaning | shape | name |
|---|---|---|---|
| - | times of external events, sorted, milliseconds | (event,) | `time` |
| - | what each is an event of: a row of the weights | (event,) int64 | `token` |
| W_in | outgoing weights of inputs, blocks u, r, z | (token, 3 unit) | `kernel` |
| W | outgoing weights of units | (unit, 3 unit) | `recurrent` |
| b | biases, blocks u, r, z | (3 unit,) | `bias` |
| theta | thresholds > 0 | (unit,) | `threshold` |
| c, a_u, a_r, a_z | state | (4, unit) | `state` |
| r | sig(a_r) of the target, r_m (the code), or of the sender, r_n (the documentation) | - | `gate_of` |
| tau_s, tau_m | time constants of inputs and state, milliseconds | - | `tau_s`, `tau_m` |

| option | "first" | "second" |
|---|---|---|
| `gate_of` | "target": r_m at the event | "source": r_n; an external event has no gate, r = 1 |
| `payload` | "graded": v = c_n(t-) | "unit": v = 1 |
| `reset` | "zero": c_n = 0 | "threshold": c_n - theta_n |

A unit fires when it reaches its threshold, by a root and not at the end of a step, so that c_n(t-) = theta_n.
Hence a graded value is theta_n, and the two resets are the same map: they differ by the rounding of the root.
They are both here because the documentation has one and the code the other.

Only c needs a quadrature: inputs relax in closed form and units are alone between events, see
`eventbook.kernels.events.continuous.flow`. The gradient is the exact event-based adjoint,
`eventbook.kernels.events.continuous.adjoint`: with it weights are touched at events alone, and times of
events are differentiable in both directions, so that one layer's events may be the next one's input.

Where several events of either kind coincide, the order decides and the gradient is that of the order taken;
where a unit grazes its threshold the gradient does not exist, and near it is large as 1/`slope`.

Source: `egru`, continuous time (documentation and code of the same group's `eventax`).
"""

from jaxtyping import Float, Int64
from torch import Tensor

from eventbook.models.egru_continuous.arguments import checked, options
from eventbook.models.egru_continuous.operator import ContinuousRun, Run


def egru_continuous(
    time: Float[Tensor, "event"],
    token: Int64[Tensor, "event"],
    kernel: Float[Tensor, "token three_units"],
    recurrent: Float[Tensor, "unit three_units"],
    bias: Float[Tensor, "three_units"],
    threshold: Float[Tensor, "unit"],
    *,
    duration: float,
    asked: Float[Tensor, "asked"] | None = None,
    value: Float[Tensor, "event"] | None = None,
    state: Float[Tensor, "4 unit"] | None = None,
    tau_s: float = 5.0,
    tau_m: float = 20.0,
    gate_of: str = "target",
    reset: str = "zero",
    payload: str = "graded",
    step: float | None = None,
    max_events: int = 10_000,
) -> ContinuousRun:
    """Run the network over one stream of events, from time 0 to `duration`.

    Parameters
    ----------
    time, token
        External events: sorted times in milliseconds, (event,) float64; rows of `kernel`, (event,) int64.
    kernel, recurrent, bias, threshold
        (token, 3 unit), (unit, 3 unit), (3 unit,) and (unit,), float64, blocks u, r, z.
    duration
        End of the run, milliseconds.
    asked
        Sorted times at which states are wanted, (asked,). A state is the one after all events at its time.
    value
        Values of external events, (event,); 1 if not given.
    state
        First state, (4, unit), rows c, a_u, a_r, a_z, with c below the threshold; zeros if not given.
    tau_s, tau_m
        Time constants, milliseconds; as in `eventax` if not given.
    gate_of, reset, payload
        See the module.
    step
        Longest step between events, milliseconds; a sixteenth of the shorter time constant if not given.
        Times and states have errors of its sixth power. No crossing is missed however long it is.
    max_events
        Internal events that are too many.

    Returns
    -------
    ContinuousRun
        Internal events, states at asked times and at the end, the integral of c: differentiable once in time,
        value, kernel, recurrent, bias, threshold and state.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range (names the first), or `asked`, `duration` or another
        number requires a gradient, which would be lost: a run is not differentiated in them.
    TypeError
        If a dtype is another one.
    RuntimeError
        If more than `max_events` units fire, or the state overflows.

    Examples
    --------
    >>> import torch
    >>> f64 = {"dtype": torch.float64}
    >>> run = egru_continuous(
    ...     torch.tensor([1.0, 2.0], **f64), torch.tensor([0, 0]), torch.tensor([[2.0, 0.0, 4.0]], **f64),
    ...     torch.zeros(1, 3, **f64), torch.zeros(3, **f64), torch.tensor([0.3], **f64), duration=20.0,
    ... )
    >>> run.time, run.unit
    (tensor([13.1054], dtype=torch.float64), tensor([0]))
    """
    chosen = options(duration, gate_of, reset, payload, tau_s, tau_m, step, max_events)
    given = checked(time, token, kernel, recurrent, bias, threshold, asked, value, state, chosen.duration)
    return ContinuousRun(*Run.apply(*given, chosen))
