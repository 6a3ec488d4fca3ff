#!/usr/bin/env bash
# scikit-posthocs 0.17.1. posthoc_wilcoxon compares models on the same videos, in pairs, and takes a long table with one row for each
# model and video. The order of its rows should not matter.
# It is told the columns of the score and of the model, but none that says which video a row belongs to, and takes the n-th row of
# each model for a pair. If the rows of a table are shuffled, or sorted by score, or were written as the jobs ended, p of a small
# but steady difference goes from 0.00008 to 0.97; sort=True does not help, and there is no warning. The tests after Friedman, which have
# block_col, give one answer for every order.
# Do instead: sort by model and video first, or give a list of the scores of each model, all in the order of the videos.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scikit-posthocs==0.17.1 numpy==2.4.6 pandas==2.3.3 scipy==1.17.1 \
  statsmodels==0.15.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W error::UserWarning - <<'EOF'
import importlib.metadata

import numpy as np
import pandas as pd
import scikit_posthocs as posthocs

print("scikit-posthocs", importlib.metadata.version("scikit-posthocs"))
base = np.arange(20.0)
wide = pd.DataFrame({"plain": base, "tuned": base + 0.01 * (1 + np.arange(20) % 3)}).rename_axis("video").reset_index()
table = wide.melt(id_vars="video", var_name="model", value_name="score")
shuffled = table.sample(frac=1, random_state=0)


def wilcoxon(rows, **how):
    return float(posthocs.posthoc_wilcoxon(rows, val_col="score", group_col="model", **how).loc["plain", "tuned"])


def nemenyi(rows):
    names = {"block_col": "video", "block_id_col": "video", "group_col": "model", "y_col": "score"}
    return float(posthocs.posthoc_nemenyi_friedman(rows, melted=True, **names).loc["plain", "tuned"])


right, wrong, sort = wilcoxon(table), wilcoxon(shuffled), wilcoxon(shuffled, sort=True)
print(f"Wilcoxon: p = {right:.5f} in order, {wrong:.2f} shuffled, {sort:.2f} with sort=True")
assert right < 0.001 and wrong > 0.5 and sort > 0.5, "rows are paired otherwise now"
again = wilcoxon(shuffled.sort_values(["model", "video"]))
print(f"sorted by model and video: p = {again:.5f}")
assert again == right
one, other = nemenyi(table), nemenyi(shuffled)
print(f"Nemenyi: p = {one:.6f} in order, {other:.6f} shuffled")
assert one == other
EOF
