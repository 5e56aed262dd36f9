"""The event-based GRU in continuous time, compiled: what `eventbook.models.egru_continuous` runs.

flow        a unit between events, one step of quadrature forward and transposed
crossing    when a unit reaches its threshold inside a step
jump        what an event does to all units, forward and transposed
forward     the loop over events, with a record of where each stretch began
adjoint     the loop backwards over that record
"""
