#!/usr/bin/env bash
# crowd-kit 1.4.2. Its pairwise models take a table of worker, left, right and label, where label names the better side.
# A label that names neither side ("tie", or a misspelt name) should be refused or ignored.
# BradleyTerry makes it one more candidate: it won a comparison in which it did not take part, the probabilities are 0 / 0,
# and the scores of all candidates are NaN. A single tie among ten votes is enough; there is a RuntimeWarning about a division.
# NoisyBradleyTerry gives numbers, with a score for the tie as for any other candidate.
# Studies that allow "about equal" have such labels as a matter of course.
# Do instead: leave ties out, or enter each as two rows, one for each side; check that the index holds your candidates only.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check crowd-kit==1.4.2 numpy==2.4.6 pandas==3.0.1 scipy==1.17.1 scikit-learn==1.9.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings
import pandas as pd
from crowdkit.aggregation import BradleyTerry, NoisyBradleyTerry

print("crowd-kit", importlib.metadata.version("crowd-kit"))
warnings.simplefilter("ignore", RuntimeWarning)


def scores(model, labels):
    rows = [(f"worker-{number % 3}", "a", "b", label) for number, label in enumerate(labels)]
    return model(n_iter=100).fit_predict(pd.DataFrame(rows, columns=["worker", "left", "right", "label"])).round(3).to_dict()


votes = ["a"] * 6 + ["b"] * 3
plain, tied = scores(BradleyTerry, votes), scores(BradleyTerry, [*votes, "tie"])
print("BradleyTerry, 6 to 3:", plain)
print("BradleyTerry, 6 to 3 and a tie:", tied)
assert abs(plain["a"] - 2 / 3) < 0.01 and sorted(plain) == ["a", "b"]
assert sorted(tied) == ["a", "b", "tie"] and all(one != one for one in tied.values()), "ties are treated otherwise now"
both = scores(BradleyTerry, [*votes, "a", "b"])
print("BradleyTerry, the tie as a row for each side:", both)
assert abs(both["a"] - 7 / 11) < 0.01
noisy = scores(NoisyBradleyTerry, [*votes, "tie"])
print("NoisyBradleyTerry, 6 to 3 and a tie:", noisy)
assert sorted(noisy) == ["a", "b", "tie"]
EOF
