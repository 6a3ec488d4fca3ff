#!/usr/bin/env bash
# torch-fidelity 0.4.0 and torchmetrics 1.9.0. Both compute the Inception Score of a set in 10 splits by default and give the mean.
# A reasonable guess is that on the same features they agree, but for the order in which they shuffle.
# They cut the set differently: torch-fidelity into 10 slices whose bounds are rounded down, so that some are empty for fewer than
# 10 images, and the score is NaN without an error; torchmetrics by torch.chunk into slices of equal size rounded up, so that there
# may be fewer than 10, and an image alone in its slice scores 1. Eleven images of certain classes score 1.1 in one and more than
# 1.5 in the other, and the deviations count different numbers of splits. Neither can exceed the number of images of a slice: ten
# images that a perfect classifier tells apart score 1, not 10.
# So small sets, such as the frames of one video or of one instant of a few videos, get a score that says how they were cut. Do
# instead: one split for all (splits=1), a multiple of the number of splits, and the number of images beside every score.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 \
  torch-fidelity==0.4.0 torchmetrics==1.9.0
cat > "$work/score.py" <<'EOF'
import warnings

import torch
from torch_fidelity.metric_isc import isc_features_to_metric
from torchmetrics.image.inception import InceptionScore


class Certain(torch.nn.Module):
    """Logits of images whose red value is their class, of ten."""

    num_features = 10

    def forward(self, images):
        return 50.0 * torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), 10).float()


def scores(num, splits=10):
    images = (torch.arange(num) % 10)[:, None, None, None].expand(-1, 3, 1, 1).contiguous().to(torch.uint8)
    one = isc_features_to_metric(Certain()(images), splits=splits)["inception_score_mean"]
    metric = InceptionScore(feature=Certain(), splits=splits)
    torch.manual_seed(0)
    metric.update(images)
    return one, float(metric.compute()[0])


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    few = scores(9)
print("warnings that name NaN or empty splits:", [str(one.message) for one in said if "split" in str(one.message).lower()])
for num in (10, 11, 15, 20, 45):
    print(f"{num} images of ten certain classes: torch-fidelity {scores(num)[0]:.2f}, torchmetrics {scores(num)[1]:.2f}")
print("9 images: torch-fidelity %s, torchmetrics %.2f" % few)
print("20 images in one split: %.2f, %.2f" % scores(20, splits=1))
assert few[0] != few[0] and few[1] == 1.0, "fewer images than splits have another score now"
assert max(scores(10)) < 1.01, "ten images are not cut one by one any more"
one, other = scores(11)
assert abs(one - 1.1) < 0.01 and other > 1.5, "the sets are cut alike now"
assert min(scores(20, splits=1)) > 9.99
EOF
cd "$work" && venv/bin/python score.py
