#!/usr/bin/env bash
# dcor 0.7. energy_test compares two sets of vectors (such as features of true and of generated videos) and
# distance_covariance_test asks whether two variables are independent. Both return a p-value, so p should be small where two sets
# lie five deviations apart, or where one variable is twice the other.
# Both p-values are 1.0, with no warning. They come from permutations, of which the default is none at all: num_resamples=0.
# With num_resamples=199 the same calls give 0.005. p = 1 reads as "no difference whatever".
# distance_correlation_t_test, of the same package, needs no permutations and gives a small p by default.
# Do instead: always pass num_resamples (199 at least) and random_state.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check dcor==0.7 numpy==2.4.6 scipy==1.17.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import dcor
import numpy as np

print("dcor", importlib.metadata.version("dcor"))
warnings.simplefilter("error", UserWarning)
generator = np.random.default_rng(0)
true, generated = generator.normal(0, 1, (30, 4)), generator.normal(5, 1, (30, 4))
tests = {
    "energy_test, five deviations apart": (dcor.homogeneity.energy_test, true, generated),
    "distance_covariance_test, x and 2 x": (dcor.independence.distance_covariance_test, true, 2 * true),
}
for name, (test, one, other) in tests.items():
    plain = float(test(one, other).pvalue)
    resampled = float(test(one, other, num_resamples=199, random_state=0).pvalue)
    print(f"{name}: p = {plain} by default, {resampled} with 199 permutations")
    assert plain == 1.0 and abs(resampled - 0.005) < 1e-9
exact = float(dcor.independence.distance_correlation_t_test(true, 2 * true).pvalue)
print(f"distance_correlation_t_test, x and 2 x: p = {exact:.1g}")
assert exact < 0.001
EOF
