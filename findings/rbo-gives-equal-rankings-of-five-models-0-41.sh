#!/usr/bin/env bash
# rbo 0.1.3. RankingSimilarity(a, b).rbo(p=0.9) is the rank-biased overlap of two rankings, such as those of models by a metric
# and by people: 0 where they have nothing in common and 1 where they are the same, with more weight for the top. 0.9 is the p of
# the paper. Two equal rankings of five models have 0.41, of three 0.27, and of two models 0.19; for 1 there would have to be
# about fifty. The sum is made for rankings without an end, and counts what lies below the last model as agreement in nothing. So
# a metric that orders three models just as people do (0.27) is below one that orders eight of them with the two best exchanged
# (0.47). rbo() without p is the mean of the overlaps, 1 for equal rankings.
# Do instead: rbo_ext(p=0.9), or rbo(p=0.9, ext=True), which assume that the agreement goes on: 1 for equal rankings.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check rbo==0.1.3 numpy==1.26.4
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata

from rbo import RankingSimilarity

print("rbo", importlib.metadata.version("rbo"))
models = [f"model-{number}" for number in range(1, 51)]
for length, overlap in ((2, 0.19), (3, 0.27), (5, 0.41), (8, 0.57), (50, 0.99)):
    same = RankingSimilarity(models[:length], models[:length])
    plain, endless = same.rbo(p=0.9), same.rbo_ext(p=0.9)
    print(f"{length:2} models in the same order: rbo(p=0.9) {plain:.2f}, rbo() {same.rbo()}, rbo_ext {endless:.2f}")
    assert round(plain, 2) == overlap
    assert same.rbo() == 1.0
    assert abs(endless - 1) < 1e-9 and abs(same.rbo(p=0.9, ext=True) - 1) < 1e-9
exchanged = RankingSimilarity(models[:8], [models[1], models[0], *models[2:8]])
print(f"8 models, the first two exchanged: rbo(p=0.9) {exchanged.rbo(p=0.9):.2f}")
assert round(exchanged.rbo(p=0.9), 2) == 0.47
EOF
