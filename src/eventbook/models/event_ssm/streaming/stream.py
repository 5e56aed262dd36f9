r"""An Event-SSM that is fed event by event, or chunk by chunk, and carries its state.

    stream = EventStream(model)
    stream.push(token, stamp)      scores after every r^stages events: the offline ones on the prefix

A group that is not full yet waits for its next events, over as many calls as it takes; after n events floor(n
/ r^stages) outputs have been made, however the events were cut into chunks. Nothing is recomputed, and what
is kept does not grow with the stream. Gaps across the cut are known because stamps are: the last one is kept,
as an integer.

A network with the released gap alignment takes an event only when the next one is there, for its gap is not
known before: the last event of every chunk waits.

Source: Schoene et al., arXiv:2404.18508, whose online example restarts from zero every 256 events; this one
does not.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from eventbook.kernels.encoders.arguments import check_rising, column
from eventbook.kernels.scans.event import check_gaps
from eventbook.models.event_ssm.classifier import EventSSM
from eventbook.models.event_ssm.pooling import MODES
from eventbook.models.event_ssm.streaming.loop import BLOCK, run
from eventbook.models.event_ssm.streaming.packing import packed, zeros


class StreamOutput(NamedTuple):
    """Scores (output, n_classes), and which event of the chunk each came with, (output,)."""

    scores: Float[np.ndarray, "output n_classes"]
    at: Int[np.ndarray, "output"]


class EventStream:
    """A stream of events through a trained network; see the module.

    The weights are copied when the stream is made, in the state of evaluation: no dropout, running averages
    in a batch norm. float32 and float64 networks keep their precision.

    Parameters
    ----------
    model
        The network.

    Raises
    ------
    TypeError
        If the weights are of another precision.
    ValueError
        If an eigenvalue is 0 and inputs are held ("zoh").

    Attributes
    ----------
    events, outputs
        How many came in and out since the start.

    Examples
    --------
    >>> import torch
    >>> from eventbook.models.event_ssm import EventSSM, EventSSMConfig
    >>> config = EventSSMConfig(n_tokens=4, n_classes=2, d_model=8, d_state=8, blocks=1, stride=2)
    >>> stream = EventStream(EventSSM(config, generator=torch.Generator().manual_seed(0)))
    >>> stream.push([3, 1, 2], [10, 1_250, 1_250]).at
    array([1])
    >>> stream.push(0, 4_000).at
    array([0])
    """

    def __init__(self, model: EventSSM) -> None:
        if not isinstance(model, EventSSM):
            raise TypeError(f"model must be an EventSSM, got {type(model).__name__}")
        for name, weight in model.state_dict().items():
            if not weight.isfinite().all():
                raise ValueError(f"model must have finite weights, got others in {name}")
        self.config, self._network = model.config, packed(model)
        self._scratch = zeros(4 * BLOCK * self._network.widest, self._network.weights.dtype).reshape(4, -1)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next event is the first."""
        network, layers = self._network, len(self._network.plan)
        dtype = network.weights.dtype
        self._memory = zeros(network.memory, dtype)
        self._filled, self._sums = np.zeros(layers, np.int64), np.zeros((layers, 2), dtype)
        self._head = np.zeros(network.head)
        self._waiting = np.empty(0, np.int64)  # tokens whose gap is not known yet
        self._last: int | None = None  # stamp
        self.events = self.outputs = 0

    def push(self, token: ArrayLike, stamp: ArrayLike) -> StreamOutput:
        """Take one event or a chunk of them.

        Parameters
        ----------
        token, stamp
            Numbers, or (event,) arrays, of integers; stamps in microseconds, never falling, not even from
            call to call.

        Returns
        -------
        StreamOutput
            One row for each output that became complete, none if no group did.

        Raises
        ------
        ValueError
            If a token is out of range, a stamp is earlier than the one before it (names the first such
            event), there are not as many stamps as tokens, or gaps came before. The stream is then as it was
            before.
        TypeError
            If tokens or stamps are no integers.
        """
        tokens = self._tokens(token)
        stamps = column(np.atleast_1d(np.asarray(stamp)), "stamp", tokens)
        check_rising(stamps, "stamp")
        if not len(tokens):
            return self._run(tokens, np.empty(0))
        if self._last is None and self.events:
            raise ValueError("stamp must not follow gaps in one stream: use push_gaps, or reset first")
        if self._last is not None and stamps[0] < self._last:
            raise ValueError(f"stamp[0] must not be earlier than {self._last} us, got {stamps[0]} us")
        before, self._last = self._last, int(stamps[-1])
        # As `collate` does, whatever the precision of the network; 64 bits, read without a sign.
        apart = np.diff(stamps, prepend=stamps[0] if before is None else before).view(np.uint64)
        gap = (apart / 1_000).astype(np.float32)
        if self.config.alignment == "aligned":
            return self._run(tokens, gap)
        ready, self._waiting = np.concatenate([self._waiting, tokens[:-1]]), tokens[-1:].copy()
        output = self._run(ready, gap[len(tokens) - len(ready) :])
        return output._replace(at=output.at + len(tokens) - len(ready))

    def push_gaps(self, token: ArrayLike, gap: ArrayLike) -> StreamOutput:
        """As `push`, for events with the gaps in milliseconds that the network is to see.

        Raises
        ------
        ValueError
            If a gap is not in 0..2^100; otherwise as `push`. Gaps and stamps do not mix in one stream.
        TypeError
            If tokens are no integers, or gaps no floating-point numbers.
        """
        tokens = self._tokens(token)
        gaps = np.atleast_1d(np.asarray(gap))
        if gaps.dtype.kind != "f":
            raise TypeError(f"gap must be floating-point numbers (milliseconds), got {gaps.dtype}")
        if gaps.shape != tokens.shape:
            raise ValueError(f"gap must be (event,) = ({len(tokens)},), got shape {gaps.shape}")
        if self._last is not None:
            raise ValueError("gap must not follow stamps in one stream: use push, or reset first")
        check_gaps(gaps[None])
        return self._run(tokens, gaps)

    def _tokens(self, token: ArrayLike) -> NDArray[np.int64]:
        tokens = column(np.atleast_1d(np.asarray(token)), "token")
        outside = (tokens < 0) | (tokens >= self.config.n_tokens)
        if outside.any():
            at = int(outside.argmax())
            raise ValueError(f"token[{at}] must be in 0..{self.config.n_tokens - 1}, got {tokens[at]}")
        return tokens

    def _run(self, tokens: NDArray[np.int64], gap: NDArray[Any]) -> StreamOutput:
        """Run the compiled loop over checked events."""
        config, network = self.config, self._network
        if config.constant_gap is not None:
            gap = np.full(len(tokens), config.constant_gap)
            gap[: 1 if self.events == 0 else 0] = 0
        every = config.total_stride
        due = (self.events + len(tokens)) // every - self.events // every
        scores, at = np.empty((due, config.n_classes), network.weights.dtype), np.empty(due, np.int64)
        written = run.kernel(
            tokens,
            gap.astype(network.weights.dtype),
            network.table,
            network.weights,
            network.plan,
            self._memory,
            self._filled,
            self._sums,
            self._head,
            self._scratch,
            network.readout,
            scores,
            at,
            list(MODES).index(config.pooling),
            config.kept == "last",
            config.norm == "layer",
            config.discretization == "zoh",
            config.head == "time",
        )
        assert written == due
        self.events += len(tokens)
        self.outputs += due
        return StreamOutput(scores, at)
