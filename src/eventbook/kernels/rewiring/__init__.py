"""Sparse layers that rewire themselves: all work is linear in the number of connections.

steps       DEEP R and soft DEEP R: move, drop what changed its sign, draw anew
products    sparse layers forward and backward, on lists of connections
network     forward and backward of a whole sparse ReLU network
"""
