#!/usr/bin/env bash
# cd-fvd 0.1.1. compute_fvd(real_videos, fake_videos) takes two arrays and returns a number, so it should be that of the two
# arrays. The object keeps the features of all videos it has ever been given, and the number is that of both piles: the real
# videos against themselves are 0 at first, and 0.49 after a bad model was compared. The second model of a table is scored as a
# mixture with the first. Past 2048 fake videos (n_fake) new ones are dropped, and every later model scores as those before it
# did. Nothing warns, as compute_fvd calls what adds to the statistics, real_stats and fake_stats, and never empties them. Here
# the features are means of colours, in place of the weights of I3D, which the package would download; the sums are its own. Do
# instead: empty_real_stats() and empty_fake_stats() before each call, or an object for each model.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 \
  scipy==1.17.1 cd-fvd==0.1.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import cdfvd.fvd
import numpy as np
import torch

print("cd-fvd", importlib.metadata.version("cd-fvd"))
warnings.simplefilter("ignore", DeprecationWarning)


class MeanColours(torch.nn.Module):
    def forward(self, videos):
        return videos.mean((2, 3, 4))


cdfvd.fvd.load_i3d_model = lambda device, path: MeanColours()
numbers = np.random.default_rng(0)
real = numbers.integers(100, 140, (32, 4, 8, 8, 3), dtype=np.uint8)
bad = numbers.integers(0, 60, (32, 4, 8, 8, 3), dtype=np.uint8)
score = cdfvd.fvd.cdfvd("i3d", device="cpu")
found = [float(score.compute_fvd(real, fake)) for fake in (real, bad, real)]
alone = float(cdfvd.fvd.cdfvd("i3d", device="cpu").compute_fvd(real, bad))
print("one object: real %.3f, bad %.3f, real again %.3f" % tuple(found))
print(f"a new object: bad {alone:.3f}")
assert abs(found[0]) < 1e-6 and found[2] > 0.3, "the second number no longer depends on what was compared before"
assert found[1] < 0.6 * alone
score.empty_real_stats(), score.empty_fake_stats()
assert abs(score.compute_fvd(real, bad) - alone) < 1e-6
EOF
