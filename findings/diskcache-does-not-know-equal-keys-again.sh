#!/usr/bin/env bash
# diskcache 5.6.3. Cache is a dict on disk, and what is stored under a key should be found under an equal key.
# Keys other than numbers and texts of Python itself are compared by the bytes of their pickle. Numbers of NumPy are such keys: after
# cache[5] = ... the key numpy.int64(5), as arange, argsort and pandas hand out, is missing, and the other way round, though the two
# are equal and have the same hash. In tuples even equal texts fail: the pickle of (a, a) refers back to the first text, that of (a, b)
# with an equal b which was made separately, as by reading a file, does not. So a key of model and prompt, or of a pair of clips, is
# found or not depending on how its parts came to be. memoize has the same keys: it computes again and stores a second time.
# Latents are computed twice and the cache, of 1 GB unless told, throws older ones away the sooner; expire, delete and "in" miss too.
# Do instead: make one text of the key, such as f"{model}/{int(number)}".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check diskcache==5.6.3 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import diskcache
import numpy as np

print("diskcache", importlib.metadata.version("diskcache"))
read = "clip\nclip\n".split()  # two equal texts, as from a file
same, other = (read[0], read[0]), (read[0], read[1])
pairs = {
    "5 and numpy.int64(5)": (5, np.int64(5)),
    "numpy.int64(5) and 5": (np.int64(5), 5),
    "('dog', 5) and ('dog', numpy.int64(5))": (("dog", 5), ("dog", np.int64(5))),
    "('clip', 'clip') of one text and of two equal ones": (same, other),
    "5 and 5.0": (5, 5.0),
    "'clip' and another 'clip'": (read[0], read[1]),
}
found = {}
for name, (stored, asked) in pairs.items():
    assert stored == asked and hash(stored) == hash(asked) and asked in {stored: 1}
    with diskcache.Cache(f"cache{len(found)}") as cache:
        cache[stored] = "latents"
        assert stored in cache
        found[name] = asked in cache
    print(f"{name}: {'found' if found[name] else 'missing'}, in a dict found")
assert list(found.values()) == [False, False, False, False, True, True], "other keys are found now"

calls = []
with diskcache.Cache("memoized") as cache:

    @cache.memoize()
    def encode(number):
        calls.append(number)
        return number

    for _ in range(2):
        encode(3), encode(np.arange(10)[3])
    print("calls of a memoized function with 3 and numpy.int64(3), twice each:", len(calls), "- entries:", len(cache))
    assert len(calls) == len(cache) == 2
EOF
