"""Matrix products, attention, norms and the MLP of training steps on a CPU: the same mathematics, faster.

They are used where gradients are needed (attention and products also without, if they are large), and never under a dispatch
mode, so that FLOP counters and tracers see torch's own operators. Tests hold each equal to its plain counterpart.
"""
