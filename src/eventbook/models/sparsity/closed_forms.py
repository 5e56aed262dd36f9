r"""What a stack of recurrent layers costs, by formula.

    dense    = sum_l G H_l (I_l + H_l)
    modelled = sum_l G H_l (a_{l-1} w^W_l I_l + a_l w^R_l H_l)        a_0 = 1 for an embedding
    ratio    = mean(a) mean(w) + Cov_i(a_i, w_i)

| symbol | meaning | shape | name |
|---|---|---|---|
| G | gates: 3 of a GRU and an EGRU, 4 of an LSTM | scalar | `gates` |
| I_l, H_l | inputs and units of layer l | scalar | `input_size`, `hidden_sizes` |
| a, w | shares of events and of weights | scalar a layer, or (source,) | `activity`, `density` |

"The two sparsities multiply" means that the covariance is small: it is 0 in expectation for random masks, and
large where masks keep the weights of active units.

Source: derived.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor


def dense_macs(input_size: int, hidden_sizes: Sequence[int], gates: int = 3) -> int:
    """sum_l G H_l (I_l + H_l): products of a token with every weight.

    Examples
    --------
    >>> dense_macs(750, [1350, 1350, 750])          # the released EGRU
    24165000
    >>> dense_macs(400, [1150, 1150, 400], gates=4)      # AWD-LSTM
    20190000
    """
    return int(modelled_macs(input_size, hidden_sizes, gates=gates))


def modelled_macs(
    input_size: int,
    hidden_sizes: Sequence[int],
    activity: Sequence[float] | None = None,
    input_density: Sequence[float] | None = None,
    recurrent_density: Sequence[float] | None = None,
    *,
    gates: int = 3,
    input_activity: float = 1.0,
) -> float:
    """sum_l G H_l (a_{l-1} w^W_l I_l + a_l w^R_l H_l): products of a token if activity and density multiply.

    Parameters
    ----------
    input_size, hidden_sizes, gates
        Of the stack.
    activity, input_density, recurrent_density
        A share for each layer, 1 if not given.
    input_activity
        a_0: 1 for an embedding, which is dense.

    Raises
    ------
    ValueError
        If there is not one share a layer, or it is no share.
    """
    layers = len(hidden_sizes)
    shares = {
        name: [1.0] * layers if given is None else list(given)
        for name, given in (
            ("activity", activity),
            ("input_density", input_density),
            ("recurrent_density", recurrent_density),
        )
    }
    for name, given in shares.items():
        if len(given) != layers:
            raise ValueError(f"{name} must have {layers} members, one a layer, got {len(given)}")
    for name, given in (*shares.items(), ("input_activity", [input_activity])):
        for share in given:
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share in [0, 1], got {share}")
    total, below, said = 0.0, input_size, input_activity
    for units, a, w, r in zip(hidden_sizes, *shares.values(), strict=True):
        total += gates * units * (said * w * below + a * r * units)
        below, said = units, a
    return total


def split_of_ratio(
    activity: Float[Tensor, "source"], row_density: Float[Tensor, "source"]
) -> tuple[float, float]:
    """mean(a) mean(w) and Cov(a_i, w_i), which add up to the share of products that are left.

    Raises
    ------
    ValueError
        If there is not one of each a source, or no source.
    """
    if activity.ndim != 1 or activity.shape != row_density.shape or not len(activity):
        raise ValueError(
            "activity and row_density must be (source,), of one length and not empty, got "
            f"{tuple(activity.shape)} and {tuple(row_density.shape)}"
        )
    a, w = activity.double(), row_density.double()
    return float(a.mean() * w.mean()), float(((a - a.mean()) * (w - w.mean())).mean())


def noise_of_random_masks(density: float, targets: int, spoken: Int[Tensor, "source"]) -> float:
    """Relative standard deviation of counted products over masks drawn at random, for given events.

        sqrt((1 - w) / (w targets n)),      n = (sum_i k_i)^2 / sum_i k_i^2

    Source i spoke k_i times. n is the number of events if no source spoke twice, and less otherwise: each
    time the same row is read, so that its chance density is drawn once.

    Raises
    ------
    ValueError
        If the density is not in (0, 1], there is no target, or nothing was spoken.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], got {density}")
    if targets < 1 or not int(spoken.sum()):
        raise ValueError(f"targets and events must be >= 1, got {targets} and {int(spoken.sum())}")
    times = spoken.double()
    events = float(times.sum().square() / times.square().sum())
    return float(((1 - density) / (density * targets * events)) ** 0.5)
