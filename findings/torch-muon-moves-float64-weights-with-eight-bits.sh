#!/usr/bin/env bash
# torch 2.14.1. torch.optim.Muon makes the momentum of a matrix orthogonal by a polynomial iteration, and moves the weights by it.
# A reasonable guess is that it computes as the weights are stored, as the other optimisers do: in float32 for a model in float32.
# The iteration runs in bfloat16 whatever the weights are, and nothing in its signature changes that: every entry of a step is a
# bfloat16 number (8 bits) times the learning rate, also in float64. The step differs from the same iteration in float64 by
# a percent, and many of its entries do not change at all when the gradient changes by a ten-thousandth.
# So a training in double precision, such as a check of gradients or of a resumed run, is not one; and on processors without
# bfloat16 products, which emulate them, the optimiser takes many times as long as the same iteration in float32 (shown below, not
# tested; 22 times on an AMD processor with AVX2). Do instead: write the five products yourself, for all matrices of a shape at once.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$work/muon.py" <<'EOF'
import time
import torch

torch.set_num_threads(1)


def step_of(gradient):
    """What one step of Muon at rate 1 adds to a matrix of zeros, without weight decay."""
    weight = torch.nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    torch.optim.Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False).step()
    return weight.detach()


def iteration(gradient):
    """The same polynomial, in the gradient's own type."""
    x = gradient / gradient.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return -x


gradient = torch.randn(64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
found, exact = step_of(gradient), iteration(gradient)
print("type of the weights:", found.dtype)
print("entries that are bfloat16 numbers:", int((found == found.bfloat16().double()).sum()), "of", found.numel())
away = float((found - exact).norm() / exact.norm())
print(f"relative distance from the iteration in float64: {away:.4f}; of the iteration in float32: "
      f"{float((iteration(gradient.float()).double() - exact).norm() / exact.norm()):.1e}")
near = gradient * (1 + 1e-4 * torch.rand(64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
same = int((step_of(near) == found).sum())
print("entries that do not change when every entry of the gradient changes by up to a ten-thousandth:", same)
assert found.dtype is torch.float64 and torch.equal(found, found.bfloat16().double()), "steps are no bfloat16 numbers any more"
assert away > 2e-3, "the iteration is exact now"
for name, run in (("torch.optim.Muon", step_of), ("the iteration in float32", iteration)):
    big = torch.randn(512, 512, generator=torch.Generator().manual_seed(2))
    run(big)
    start = time.process_time()
    for _ in range(3):
        run(big)
    print(f"{name}, 512 x 512: {(time.process_time() - start) / 3 * 1e3:.0f} ms")
EOF
cd "$work" && venv/bin/python muon.py
