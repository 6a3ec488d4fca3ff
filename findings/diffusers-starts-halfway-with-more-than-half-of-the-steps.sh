#!/usr/bin/env bash
# diffusers 0.42.1. More steps should bring samples closer to the full chain of 1000: 600 steps lie between 500 and 1000. With the
# spacing "leading", the default of DDIM, DDPM and PNDM, the distance of two steps is 1000 // steps: 2 for 500, and 1 from 501 on.
# So 500 steps go from t=998 to 0, and 501 go from t=500 to 0: sampling begins at pure noise, for a model that has learned that 28
# % of the amplitude there is picture. 600 steps begin at 599, and 334 at 666 for the same reason. Nothing warns. Curves of
# quality over steps fall off a cliff behind each divisor of 1000. Euler, DPM-Solver and UniPC have "linspace" as default. Do
# instead: timestep_spacing="trailing" or "linspace", or a number of steps that divides 1000.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata

from diffusers import DDIMScheduler, DDPMScheduler, PNDMScheduler

print("diffusers", importlib.metadata.version("diffusers"))
first = {}
for steps in (250, 333, 334, 500, 501, 600, 1000):
    for kind in (DDIMScheduler, DDPMScheduler, PNDMScheduler):
        scheduler = kind()
        scheduler.set_timesteps(steps)
        first[steps, kind] = int(scheduler.timesteps.max())
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    begin = first[steps, DDIMScheduler]
    picture = float(scheduler.alphas_cumprod[begin]) ** 0.5
    print(f"{steps} steps: leading from t={begin} (picture {picture:.3f}), trailing from t={int(scheduler.timesteps[0])}")
    assert int(scheduler.timesteps[0]) == 999
for kind in (DDIMScheduler, DDPMScheduler, PNDMScheduler):
    assert first[500, kind] == 998 and first[1000, kind] == 999
    assert (first[334, kind], first[501, kind], first[600, kind]) == (666, 500, 599), f"{kind.__name__} spreads its steps otherwise"
assert float(DDIMScheduler().alphas_cumprod[500]) ** 0.5 > 0.2
EOF
