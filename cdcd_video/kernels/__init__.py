"""Matrix products, attention, norms and the MLP of training steps on a CPU; same mathematics, other order of the work.

They serve where gradients are wanted (attention and products also where not, if they are large), and never under a dispatch
mode: whoever counts FLOPs or bytes, traces or fakes, sees torch's own operators. Each has a plain counterpart that a test
holds it equal to.
"""
