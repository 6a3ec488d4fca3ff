#!/usr/bin/env bash
# statsmodels 0.15.0. aggregate_raters turns a table of videos by raters into counts for fleiss_kappa. NaN, where a rater has not
# seen a video, should be left out, or refused.
# It becomes one more category, in which all raters who have not seen a video agree, and which is most of the table where each
# video is given to a few raters out of many. In a study where two of six raters see each video and agree on it without exception,
# kappa is 0 instead of 1, without a warning. The list of categories, the second thing returned, ends in nan, the only sign of it.
# Do instead: give each video the same number of ratings and leave the gaps out, or use Krippendorff's alpha, which knows gaps.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check statsmodels==0.15.0 krippendorff==0.9.0 numpy==2.4.6 pandas==2.3.3 scipy==1.17.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import krippendorff
import numpy as np
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

print("statsmodels", importlib.metadata.version("statsmodels"))
warnings.simplefilter("error")
truth = np.random.default_rng(0).integers(1, 6, 60)
ratings = np.full((60, 6), np.nan)
for video, score in enumerate(truth):
    ratings[video, [2 * video % 6, (2 * video + 1) % 6]] = score
counts, categories = aggregate_raters(ratings)
kappa = float(fleiss_kappa(counts))
print("two of six raters see each video and always agree: kappa", round(kappa, 3), "- categories", categories.tolist())
assert np.isnan(categories[-1]) and len(categories) == 6, "missing ratings are no category now"
assert abs(kappa) < 0.05
plain = float(fleiss_kappa(aggregate_raters(ratings[~np.isnan(ratings)].reshape(60, 2))[0]))
alpha = float(krippendorff.alpha(ratings.T, level_of_measurement="nominal"))
print("without the gaps: kappa", plain, "- Krippendorff's alpha with the gaps:", alpha)
assert plain == 1 and alpha == 1
EOF
