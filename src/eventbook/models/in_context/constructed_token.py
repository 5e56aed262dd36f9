r"""The other form of the layer, for outputs of one number: what to read stands in the token itself.

    u_t = [x_t y_t; x_{t+1}]  in R^{2f}
    z_t = D o z_{t-1} + B u_t,    B = eta/N [I 0],   D = 1            z = eta/N sum y x
    p_t = z_t . (G u_t),          G = [0 I]                          z . x_{t+1}

| symbol | meaning | shape | name |
|---|---|---|---|
| u | tokens | (batch, time, 2 features) | `tokens` |
| B, G | input map, output gate | (features, 2 features) | `B`, `G` |
| D | decay | (features,) | `decay` |
| p | prediction after each token | (batch, time) | returned |

The product of x and y is made before the layer sees anything, and what is left of it is a sum and a gate: an
ordinary diagonal state-space model with a multiplicative output.

The branch writes B = -eta/f [I 0] with the output z . (D u), which is minus the prediction of a step. Ours
has the sign of the step, and divides by N.

Source: released code of arXiv:2410.11687, branch `constructed-token`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eventbook.kernels.encoders.arguments import whole
from eventbook.kernels.machinery.tensors import FLOATING, axes, same_dtype
from eventbook.kernels.scans import constant_scan
from eventbook.models.in_context.construction import step_scale
from eventbook.models.in_context.tasks import Tasks


def constructed_tokens(tasks: Tasks) -> Float[Tensor, "task context twice"]:
    """u_1, ..., u_N of tasks with one output; the last one ends with the query.

    Raises
    ------
    ValueError
        If shapes do not fit, or the tasks have more than one output.
    """
    axes(
        x=(tasks.x, "task context features"), y=(tasks.y, "task context outputs"),
        query=(tasks.query, "task features"),
    )  # fmt: skip
    if tasks.y.shape[2] != 1:
        raise ValueError(f"y must have one output, got {tasks.y.shape[2]}")
    following = torch.cat([tasks.x[:, 1:], tasks.query[:, None]], 1)
    return torch.cat([tasks.x * tasks.y, following], 2)


class ConstructedTokenLayer(nn.Module):
    """See the module; begins as the construction, all of it trainable.

    Parameters
    ----------
    features, context
        f and N.
    eta
        Rate of the step.
    normalise_by
        "context" or "features".

    Raises
    ------
    ValueError, TypeError
        As `construction`.
    """

    def __init__(self, features: int, context: int, eta: float, *, normalise_by: str = "context") -> None:
        super().__init__()
        scale = step_scale(eta, context, features, normalise_by)
        eye = torch.eye(whole(features, "features", 1))
        self.B = nn.Parameter(torch.cat([scale * eye, 0 * eye], 1))
        self.G = nn.Parameter(torch.cat([0 * eye, eye], 1))
        self.log_decay = nn.Parameter(torch.zeros(features))

    @property
    def decay(self) -> Float[Tensor, "features"]:
        """Decay of each state in one token."""
        return torch.exp(self.log_decay)

    def forward(
        self,
        tokens: Float[Tensor, "batch time twice"],
        carried: Float[Tensor, "batch features"] | None = None,
    ) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch features"]]:
        """Predictions after each token, and the state for the next call.

        Raises
        ------
        ValueError
            If shapes do not fit.
        TypeError
            If dtypes are not that of the layer.
        """
        sizes = axes(tokens=(tokens, "batch time twice"), carried=(carried, "batch features"))
        if sizes["twice"] != self.B.shape[1]:
            raise ValueError(f"tokens must be (batch, time, {self.B.shape[1]}), got {tuple(tokens.shape)}")
        same_dtype(FLOATING, B=self.B, tokens=tokens, carried=carried)
        states, last = constant_scan(self.decay, tokens @ self.B.mT, carried)
        return (states * (tokens @ self.G.mT)).sum(2), last
