#!/usr/bin/env bash
# webdataset 1.0.2. WebDataset(shards, shardshuffle=100, seed=0).shuffle(100) should be another order in each epoch, and the same
# again in the next run. Both halves come out the other way round. Shards have one order in all epochs, with or without a seed: the
# shuffler begins anew with the same seed each time, so the second epoch reads the files as the first did. And .shuffle knows nothing of
# the seed: it takes one from the clock, so that no two runs see the same samples, nor does random.seed or detshuffle=True change that.
# With buffers smaller than the set, samples of a shard meet the same neighbours in every epoch, and a run cannot be repeated.
# Do instead: detshuffle=True for shards, and .compose(wds.detshuffle(100, seed=0)) for samples, which count epochs.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check webdataset==1.0.2 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib.metadata
import io
import random
import tarfile

import webdataset as wds

print("webdataset", importlib.metadata.version("webdataset"))
for shard in range(8):
    with tarfile.open(f"{shard}.tar", "w") as file:
        for number in range(10):
            about = tarfile.TarInfo(f"{shard}{number}.txt")
            about.size = 1
            file.addfile(about, io.BytesIO(b"x"))
files = "{0..7}.tar"


def epochs(dataset, number=3):
    return [[sample["__key__"] for sample in dataset] for _ in range(number)]


def shards(order):
    return [key[0] for key in order[::10]]


for options in ({}, {"seed": 0}, {"seed": 0, "detshuffle": True}):
    found = [shards(order) for order in epochs(wds.WebDataset(files, shardshuffle=8, **options))]
    print(f"shards of three epochs, {options or 'no seed'}:", *("".join(order) for order in found))
    changes = len({tuple(order) for order in found}) > 1
    assert changes == ("detshuffle" in options), "the order of shards changes otherwise now"
    assert sorted(found[0]) == list("01234567")


def seeded(**options):
    random.seed(0)
    return epochs(wds.WebDataset(files, shardshuffle=False, seed=0, **options).shuffle(40), 1)


def counted():
    return epochs(wds.WebDataset(files, shardshuffle=False).compose(wds.detshuffle(40, seed=0)), 2)


print("samples in the same order in two runs: seed", seeded() == seeded(), "- detshuffle=True", seeded(detshuffle=True) == seeded(detshuffle=True),
      "- wds.detshuffle", counted() == counted())
assert seeded() != seeded() and seeded(detshuffle=True) != seeded(detshuffle=True), "samples are shuffled by the seed now"
assert counted() == counted() and counted()[0] != counted()[1]
EOF
