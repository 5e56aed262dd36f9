"""Labelled event streams: one type, its sets, and one door to them.

event_streams    what a set of labelled streams is
event_digits     spoken digits, delta-coded: real speech, our encoding
saccade_mnist    MNIST seen in three saccades: real images, simulated events
timing_task      a synthetic task whose last bit is in the timing alone
event_originals  SHD, SSC, DVS128 Gesture and N-MNIST, from a user's files
encoded_cache    encoded streams are kept on disk, keyed by what they were made of
sets             any of them by name
"""
