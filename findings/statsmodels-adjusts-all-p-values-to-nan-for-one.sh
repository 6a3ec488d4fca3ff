#!/usr/bin/env bash
# statsmodels 0.15.0. A table of p-values often has one NaN, as a paired t-test gives where two models have equal scores. A
# reasonable guess is that multipletests raises, or corrects the others as if the NaN were not there. By method it does one of
# three other things, without a warning. Bonferroni, Holm and Sidak count the NaN as one more test. Hommel and fdr_gbs reject
# nothing at all, though the smallest p-value is 0.001. Benjamini-Hochberg and the other procedures that control the false
# discovery rate turn every adjusted p-value into NaN, and yet give decisions; those of fdr_bh are stricter than without the NaN,
# those of fdr_tsbh are not. np.argsort puts NaN last, as the largest p-value, and a running minimum spreads it to all. Whoever
# reads the adjusted values and not the decisions sees no significant result, as NaN < 0.05 is False. Do instead: leave NaN out
# before, and say how many there were; scipy.stats.false_discovery_control raises an error.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import numpy as np
from statsmodels.stats.multitest import multipletests

print("statsmodels", importlib.metadata.version("statsmodels"))
warnings.simplefilter("error")
without, values = [0.001, 0.04, 0.02], [0.001, np.nan, 0.04, 0.02]
decided, adjusted = {}, {}
for method in ("bonferroni", "holm", "hommel", "fdr_bh", "fdr_by", "fdr_tsbh", "fdr_gbs"):
    plain = multipletests(without, method=method)
    decided[method], adjusted[method] = (found[[0, 2, 3]] for found in multipletests(values, method=method)[:2])
    print(f"{method}: rejected {decided[method].tolist()}, p {adjusted[method].round(4).tolist()}; "
          f"without the NaN {plain[0].tolist()}, {plain[1].round(4).tolist()}")
assert np.allclose(adjusted["bonferroni"], np.array(without) * 4), "NaN is not counted as a test any more"
assert not decided["hommel"].any() and multipletests(without, method="hommel")[0].all()
assert all(np.isnan(adjusted[method]).all() for method in ("fdr_bh", "fdr_by", "fdr_tsbh", "hommel")), "p-values are finite now"
assert decided["fdr_bh"].tolist() == [True, False, True] and multipletests(without, method="fdr_bh")[0].all()
EOF
