#!/usr/bin/env bash
# torch 2.14.1. FlopCounterMode knows scaled_dot_product_attention, and its count should hang on shapes, not on where they are computed.
# On a CPU attention counts 0, forward and backward, and under FakeTensorMode too, as the kernel that serves CPUs is not in its table;
# on the device meta, which takes the plain products, it is right. A TransformerEncoderLayer of 1024 tokens counts a quarter of what
# it needs, and in eval and no_grad, where all of it is a single operator, 0. A plan made on a laptop for a long video, where attention
# is most of the work, is too low by as much, while small networks look right; nothing says that an operator was not known.
# Do instead: wrap the call in torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or name the kernel in custom_mapping.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import contextlib

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

print("torch", torch.__version__.split("+")[0])


def flops(run, *inside):
    with contextlib.ExitStack() as stack:
        for context in inside:
            stack.enter_context(context)
        counter = stack.enter_context(FlopCounterMode(display=False))
        run()
    return counter.get_total_flops()


def attention(device="cpu", learns=False):
    q = torch.ones(1, 4, 1024, 16, device=device, requires_grad=learns)
    out = F.scaled_dot_product_attention(q, q, q)
    return out.sum().backward() if learns else out


needed = 2 * 2 * 4 * 1024 * 1024 * 16
found = {
    "CPU": flops(attention),
    "CPU, with backward": flops(lambda: attention(learns=True)),
    "fake tensors": flops(attention, FakeTensorMode()),
    "meta": flops(lambda: attention("meta")),
    "CPU, plain products": flops(attention, sdpa_kernel(SDPBackend.MATH)),
}
print(f"attention of 1024 tokens needs {needed:,} FLOPs; counted:", ", ".join(f"{name} {count:,}" for name, count in found.items()))
assert found["CPU"] == found["CPU, with backward"] == found["fake tensors"] == 0, "attention is counted on a CPU now"
assert found["meta"] == found["CPU, plain products"] == needed
layer, x = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True), torch.zeros(1, 1024, 64)
products = 2 * 1024 * (4 * 64 * 64 + 2 * 64 * 256)
whole = products + needed
train, sampling = flops(lambda: layer.train()(x)), flops(lambda: layer.eval()(x), torch.no_grad())
print(f"a layer of 1024 tokens needs {whole:,}; counted: {train:,} in training, {sampling:,} in eval and no_grad")
assert train == products < 0.3 * whole and sampling == 0
EOF
