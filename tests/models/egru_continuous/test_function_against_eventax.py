"""Times of events and their gradients against eventax 0.1.0, whose model has unit values and c - theta."""

import numpy as np
import pytest
import torch
from continuous_streams import TOKENS, UNITS, problem

from eventbook.models.egru_continuous.function import egru_continuous


@pytest.mark.slow
def test_times_and_their_gradients_are_those_of_eventax():
    evnn = pytest.importorskip("eventax.evnn", reason="eventax is an optional peer")
    egru = pytest.importorskip("eventax.neuron_models.egru")
    jax, eqx = pytest.importorskip("jax"), pytest.importorskip("equinox")
    diffrax, optimistix = pytest.importorskip("diffrax"), pytest.importorskip("optimistix")
    p = problem()
    for name in ("value", "state", "asked"):  # values of 1 and a state of zeros
        del p[name]
    names = ("kernel", "recurrent", "bias")
    mine = {name: p[name].clone().requires_grad_() for name in names}
    run = egru_continuous(**{**p, **mine}, gate_of="target", payload="unit", reset="threshold")
    run.time.sum().backward()

    spikes = np.full((TOKENS, int(torch.bincount(p["token"]).max())), np.inf)
    for token in range(TOKENS):
        times = p["time"][p["token"] == token]
        spikes[token, : len(times)] = times
    weights = torch.cat([p["recurrent"], p["kernel"]]).view(UNITS + TOKENS, 3, UNITS).unbind(1)
    biases = p["bias"].view(3, UNITS).unbind(0)

    def parts(network):
        model = network.neuron_model
        return model.W_u, model.W_r, model.W_z, model.b_u, model.b_r, model.b_z

    was = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        network = evnn.EvNN(
            neuron_model=egru.EGRU, n_neurons=UNITS, in_size=TOKENS, max_solver_time=p["duration"],
            wmask=jax.numpy.ones((UNITS + TOKENS, UNITS)),  # its own needs as many inputs as units
            key=jax.random.PRNGKey(0), solver=diffrax.Dopri8(), solver_stepsize=0.25,
            root_finder=optimistix.Newton(1e-12, 1e-12, optimistix.rms_norm), max_event_steps=60,
            thresh=jax.numpy.asarray(p["threshold"].numpy()), tsyn=5.0, tmem=20.0, dtype=jax.numpy.float64,
        )  # fmt: skip

        def times_of(values):
            changed = eqx.tree_at(parts, network, values)
            found = changed.spikes_until_t(jax.numpy.asarray(spikes), p["duration"], max_spikes=12)
            return jax.numpy.where(jax.numpy.isfinite(found), found, 0.0).sum(), found

        values = tuple(jax.numpy.asarray(part.numpy()) for part in (*weights, *biases))
        (_, found), gradient = eqx.filter_jit(jax.value_and_grad(times_of, has_aux=True))(values)
        found, gradient = np.asarray(found), [np.asarray(part) for part in gradient]
    finally:
        jax.config.update("jax_enable_x64", was)

    events = sorted((t, n) for n in range(UNITS) for t in found[n][np.isfinite(found[n])])
    assert [n for _, n in events] == run.unit.tolist()
    assert np.abs(np.array([t for t, _ in events]) - run.time.detach().numpy()).max() < 1e-9
    own = torch.cat([mine["recurrent"].grad, mine["kernel"].grad]).view(UNITS + TOKENS, 3, UNITS).unbind(1)
    for ours, its in zip((*own, *mine["bias"].grad.view(3, UNITS)), gradient, strict=True):
        assert np.linalg.norm(its - ours.numpy()) < 1e-9 * np.linalg.norm(ours.numpy())
