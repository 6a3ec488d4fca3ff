#!/usr/bin/env bash
# grain 0.2.18. Clips are shuffled with a seed, the first 80 of 100 are the training set and the others are held out: train, held =
# ds[:80], ds[80:]. train.repeat(5) should go five times through the same 80 clips, in other orders.
# repeat gives every transformation before it another seed in each epoch, also the shuffle before the slice. A slice is one of
# places and not of clips: the first 80 of another order are other clips. From the second epoch on training sees clips that are held
# out, and after five it has seen all of them. len(train), list(train) and one epoch show nothing, nor does list(held), which is
# always that of the first epoch. So do ds[::8] to ds[7::8] of eight workers, which no longer divide the clips within what each one
# counts as an epoch. Each of both is as documented; only together they are a leak, and scores on held-out clips become too good.
# Do instead: slice first and shuffle then, or split a list of names before grain sees it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.18
cd "$work"
venv/bin/python - 2>&1 <<'EOF' | grep -v "jax profiler"
import importlib.metadata

import grain

print("grain", importlib.metadata.version("grain"))
clips = grain.MapDataset.range(100)


def leak(train, held, epochs):
    """How many of the clips of held are also in so many epochs of train."""
    return len(set(train.repeat(epochs)) & set(held))


for name, ds in (("shuffle(seed=1)", clips.shuffle(seed=1)), ("seed(1).shuffle()", clips.seed(1).shuffle())):
    train, held = ds[:80], ds[80:]
    assert len(train) == 80 and sorted([*train, *held]) == list(range(100)) and list(held) == list(held)
    found = {epochs: leak(train, held, epochs) for epochs in (1, 2, 3, 5, 10)}
    print(f"{name}, then slices: held-out clips seen after so many epochs {found}, of {len(held)}")
    assert found[1] == 0 and found[2] >= 10 and found[10] == 20, "a slice keeps its clips now"
    again = leak(train.shuffle(seed=2), held, 5)
    print(f"shuffled once more after the slice: {again} after 5 epochs")
    assert again >= 15
train, held = clips[:80].shuffle(seed=1), clips[80:]
print("slices, then shuffle:", leak(train, held, 10), "- with reseed_each_epoch=False:",
      len(set(clips.shuffle(seed=1)[:80].repeat(10, reseed_each_epoch=False)) & set(clips.shuffle(seed=1)[80:])))
assert leak(train, held, 10) == 0
order = list(train.repeat(2))
assert order[:80] != order[80:] and sorted(order[:80]) == sorted(order[80:])
EOF
