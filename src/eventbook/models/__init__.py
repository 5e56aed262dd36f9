"""Networks of the papers as torch modules, each on the kernels of this package.

event_ssm    state-space layers over streams of events, with the gap between events as the time step
"""
