#!/usr/bin/env bash
# openskill 6.2.0. `rate(teams, ranks=...)` takes "a list of floats where the lower values represent winners",
# and five models share it, so ranks [0.1, 0.2] should be a win for the first in each.
# PlackettLuce, which most examples use, cuts ranks to integers: 0.1 and 0.2 are a
# tie, and the ratings stay where they were. The Bradley-Terry and Thurstone-Mosteller
# models see a win. Mean ranks, or a distance such as FVD given as ranks, are rated wrong in silence.
# Do instead: give `scores` (negated where lower is better), which are ranked first, or whole ranks.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check openskill==6.2.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata
from openskill import models

print("openskill", importlib.metadata.version("openskill"))
seen = {}
for name in ("PlackettLuce", "BradleyTerryFull", "BradleyTerryPart", "ThurstoneMostellerFull", "ThurstoneMostellerPart"):
    model = getattr(models, name)()

    def first(**result):
        return round(model.rate([[model.rating()], [model.rating()]], **result)[0][0].mu, 2)

    seen[name] = first(ranks=[0.1, 0.2]), first(ranks=[1, 2]), first(scores=[-0.1, -0.2])
    print(f"{name}: mu of the first by ranks [0.1, 0.2] {seen[name][0]}, [1, 2] {seen[name][1]}, scores [-0.1, -0.2] {seen[name][2]}")
assert seen["PlackettLuce"][0] == 25 < seen["PlackettLuce"][1] == seen["PlackettLuce"][2], "PlackettLuce heeds fractions."
del seen["PlackettLuce"]
assert all(25 < a == b == c for a, b, c in seen.values()), "Another model no longer heeds fractions."
EOF
