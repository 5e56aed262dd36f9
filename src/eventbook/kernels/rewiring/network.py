r"""Loss and gradients of a ReLU network of sparse layers, without biases, for one batch in one call.

    a_0 = x,    z_l = a_{l-1} W_l^T,    a_l = max(z_l, 0) for l < L,    E = mean cross entropy of softmax(z_L)
    delta_L = (softmax(z_L) - onehot(t)) / batch,    delta_{l-1} = (W_l^T delta_l) where a_{l-1} > 0
    dE/dw_{l,k} = sum over the batch of delta_l[i_k] a_{l-1}[j_k],    for stored connections only

The walk over the connections is that of `eventbook.kernels.rewiring.products`; what is saved is everything
around it. For a network of a few thousand connections an automatic differentiation framework spends more
time between the layers than in them.

| symbol | meaning | shape | name |
|---|---|---|---|
| a_l | activity of layer l, batch last | (n_l, lanes) | `activity[l]` |
| delta_l | gradient to z_l, batch last | (n_l, lanes) | `delta[l]` |
| w_l | weights of the stored connections | (K_l,) | `weight[l]` |
| (i_k, j_k) | output row and input column | (K_l,) int64, ascending | `index[l]` |
| t | classes | (batch,) int64 | `labels` |

Layers are tuples of arrays of one dtype. Source: derived (backpropagation over stored connections).
"""

# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated"
import numpy as np

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import door, inside
from eventbook.kernels.machinery.lanes import new_lanes
from eventbook.kernels.rewiring.checks import check_loss, check_network
from eventbook.kernels.rewiring.products import (
    gradients_of_lanes,
    lanes_of,
    product_of_lanes,
    weight_gradient_of_lanes,
)


def activity_buffers(sizes, batch, dtype):
    """Arrays (n_l, lanes) for a network of these layer sizes, zero."""
    buffers = tuple(new_lanes(n, lanes_of(batch), np.empty(0, dtype)) for n in sizes)
    for buffer in buffers:
        buffer.fill(0)
    return buffers


@inside
@kernel()
def load_batch(images, chosen, out):
    """Copy the chosen rows of images (images, n) into the lanes of out (n, lanes); other lanes stay zero.

    Relies on chosen rows that exist, no more of them than lanes.
    """
    for b in range(chosen.size):
        for i in range(out.shape[0]):
            out[i, b] = images[chosen[b], i]


@inside
@kernel()
def rectify(z):
    """max(z, 0) in place."""
    for i in range(z.shape[0]):
        for b in range(z.shape[1]):
            z[i, b] = max(z[i, b], 0)


@inside
@kernel()
def mask_inactive(delta, activity):
    """Gradient through the ReLU: 0 where the unit was silent, in place. Relies on equal shapes."""
    for i in range(delta.shape[0]):
        for b in range(delta.shape[1]):
            delta[i, b] = delta[i, b] if activity[i, b] > 0 else 0


@door(check_loss)
@kernel()
def softmax_cross_entropy(logits, labels, chosen, delta):
    """Mean cross entropy of the chosen examples, and its gradient to the logits in delta (classes, lanes)."""
    batch, classes = chosen.size, logits.shape[0]
    loss = 0.0
    for b in range(batch):
        top = logits[0, b]
        for i in range(1, classes):
            top = max(top, logits[i, b])
        total = 0.0
        for i in range(classes):
            total += np.exp(logits[i, b] - top)
        target = labels[chosen[b]]
        loss += np.log(total) + top - logits[target, b]
        for i in range(classes):
            delta[i, b] = (np.exp(logits[i, b] - top) / total - (i == target)) / batch
    return loss / batch


@door(check_network)
@kernel()
def network_gradients(images, labels, chosen, weight, index, activity, delta, gradient):
    """Mean cross entropy of a batch; dE/dw of every stored connection goes to `gradient`.

    Parameters
    ----------
    images : (images, n_0), labels : (images,) int64
    chosen : (batch,) int64, rows of images; batch as given to `activity_buffers`
    weight, index, gradient : tuples over layers of (K_l,)
    activity, delta : tuples over layers 0..L of (n_l, lanes), scratch

    Returns
    -------
    float
    """
    layers = len(weight)
    load_batch(images, chosen, activity[0])
    for layer in range(layers):
        product_of_lanes(activity[layer], weight[layer], index[layer], activity[layer + 1])
        if layer < layers - 1:
            rectify(activity[layer + 1])
    loss = softmax_cross_entropy(activity[layers], labels, chosen, delta[layers])
    for layer in range(layers - 1, 0, -1):
        gradients_of_lanes(
            delta[layer + 1], activity[layer], weight[layer], index[layer], gradient[layer], delta[layer]
        )
        mask_inactive(delta[layer], activity[layer])
    weight_gradient_of_lanes(delta[1], activity[0], index[0], gradient[0])
    return loss


def network_gradients_reference(images, labels, weights):
    """Readable twin on dense matrices: (batch, n_0), (batch,), list of (n_l, n_{l-1}) -> loss, list of
    dE/dW."""
    activity = [images]
    for layer, weight in enumerate(weights):
        z = activity[-1] @ weight.T
        activity.append(z if layer == len(weights) - 1 else np.maximum(z, 0))
    logits = activity[-1] - activity[-1].max(1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    delta, gradients = p / len(labels), []
    for layer in range(len(weights) - 1, -1, -1):
        gradients.insert(0, delta.T @ activity[layer])
        delta = (delta @ weights[layer]) * (activity[layer] > 0)
    return loss, gradients
