"""Networks of the papers as torch modules, each on the kernels of this package.

event_ssm        state-space layers over streams of events, with the gap between events as the time step
stream           selective state-space blocks that forget with distance, over events and point clouds
in_context       a layer that learns in its context by gradient descent
egru             a gated recurrent network whose units speak only when their state crosses a threshold
egru_continuous  the event-based GRU in continuous time, with its exact event-based adjoint
language_model   words, one after another, over EGRU, LSTM or GRU
sequence_classifier  sequences of numbers, over the same
event_gru        a recurrent baseline over the same streams
event_input      what all of them are given, and what they say when it is wrong
sparsity         what a recurrent network leaves out: silent units, missing weights, products
decay            what weight decay pulls on
initialization   linear maps as they begin
"""
