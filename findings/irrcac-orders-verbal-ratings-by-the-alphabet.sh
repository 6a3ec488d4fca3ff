#!/usr/bin/env bash
# irrCAC 0.4.4. CAC(ratings, weights="linear") is a weighted agreement of raters: "poor" against "fair" counts as half right,
# "bad" against "excellent" as wrong. Ratings may be words, and then the categories are said to be numbered from 1 on. An ordered
# pandas Categorical, bad < poor < fair < good < excellent, names the order, which should be the one of the weights. The words are
# sorted by the alphabet: bad, excellent, fair, good, poor, so that bad and excellent are neighbours, and good and poor. The order
# of the Categorical is not looked at. Raters who differ by one step at most have a weighted kappa of 0.89 by numbers and of 0.10
# by words (quadratic weights), with no warning. (The package krippendorff refuses words without an order.)
# Do instead: pass categories=[...] from worst to best, or numbers in place of words.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check irrCAC==0.4.4 pandas==2.3.3 numpy==1.26.4
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import pandas as pd
from irrCAC.raw import CAC

warnings.simplefilter("error", UserWarning)
print("irrCAC", importlib.metadata.version("irrCAC"), "pandas", pd.__version__)
words = ["bad", "poor", "fair", "good", "excellent"]
numbers = pd.DataFrame({"Ann": [1, 2, 3, 4, 5, 5, 3, 2], "Ben": [1, 2, 3, 5, 5, 4, 3, 2], "Eva": [2, 2, 3, 4, 5, 5, 4, 1]})
verbal = numbers.map(lambda number: words[number - 1])
ordered = verbal.apply(lambda column: pd.Categorical(column, categories=words, ordered=True))
assert (ordered.max(axis=0) == "excellent").all() and (ordered.min(axis=0) == "bad").all()
for weights, right, wrong in (("identity", 0.47, 0.47), ("linear", 0.73, 0.30), ("quadratic", 0.89, 0.10)):
    kappas = [
        float(CAC(ratings, weights=weights, **options).fleiss()["est"]["coefficient_value"])
        for ratings, options in ((numbers, {}), (verbal, {}), (ordered, {}), (verbal, {"categories": words}))
    ]
    print(f"{weights:9} numbers {kappas[0]:.2f}, words {kappas[1]:.2f}, an ordered Categorical {kappas[2]:.2f},"
          f" words with categories {kappas[3]:.2f}")
    assert [round(kappa, 2) for kappa in kappas] == [right, wrong, wrong, right]
print("the order of the weights:", CAC(ordered, weights="linear").categories)
assert CAC(ordered, weights="linear").categories == sorted(words)
EOF
