"""Event by event: a trained network as a stream that carries its state.

stream     `EventStream`, what is fed
packing    the weights, end to end
loop       the compiled loop over events and layers
"""

from eventbook.models.event_ssm.streaming.stream import EventStream, StreamOutput

__all__ = ["EventStream", "StreamOutput"]
