"""Deep Rewiring: networks that never have more than K connections, and the methods it is compared with.

wiring               which connections a layer has: drawn, proved, loaded
state                loading a state whole or not at all
sparse_linear        a layer on a list of connections, with fixed signs or free ones
soft_linear          a layer whose dormant connections keep a parameter (soft DEEP R)
sparsify             the same for the weights of any module
deep_r               the optimisers
baselines            fixed wiring, magnitude pruning, l1 shrinkage, SET, RigL
mlp_classifier       networks of such layers, and how they are trained
compiled_training    the same training as one compiled loop
posterior            what DEEP R samples from, in closed form and by simulation
"""
