"""FLOPs of a model by formula: two per multiply-add of matrix products, and nothing else.

They are those of the mathematics: recomputation that saves memory, and padding, do not count. A test compares them with
torch's FlopCounterMode.
"""

from cdcd_video.tools.bench.upstream_shapes import Shape, Trunk


def forward_flops(shape: Shape, trunk: Trunk, mlp_width: int) -> int:
    """One forward pass of the transformer: blocks with self-attention, cross-attention and an MLP, and the head.

    Upstream's 3 x 3 convolutions count as an MLP of hidden width `trunk.equal_mlp`. Embeddings and modulations are
    below a thousandth and left out.
    """
    per_place = 4 * trunk.width**2 + 2 * trunk.width**2 + 2 * trunk.width * mlp_width
    mixing = 2 * trunk.width * (shape.num_tokens + trunk.text_tokens)
    per_word = 2 * trunk.text_width * trunk.width
    in_blocks = trunk.num_layers * (shape.num_tokens * (per_place + mixing) + trunk.text_tokens * per_word)
    head = shape.num_tokens * trunk.width * shape.num_codes
    return 2 * shape.batch * (in_blocks + head)


def step_flops(shape: Shape, trunk: Trunk, mlp_width: int) -> int:
    """A training step: backward has two products for each one of forward."""
    return 3 * forward_flops(shape, trunk, mlp_width)
