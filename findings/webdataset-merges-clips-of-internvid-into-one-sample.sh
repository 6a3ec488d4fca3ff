#!/usr/bin/env bash
# webdataset 1.0.2. A sample's key should come back as it was written; TarWriter takes any string, and warns of none.
# Files of a sample are named KEY.EXTENSION, and the reader cuts the name at the first dot, not at the last.
# InternVid names a clip after its times, as in ID_00:03:10.567_00:03:10.900, so that the key ends before ".567".
# Two clips that begin within the same second become one sample with two videos and two captions.
# No sample has the fields mp4 and txt any more: to_tuple("mp4", "txt") raises, and a pipeline that
# skips what it cannot use (handler=warn_and_continue) trains on nothing. Other sets with decimals in their names fare alike.
# Do instead: replace the dots of a key before it is written, and keep the true name in the sample's JSON.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check webdataset==1.0.2 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, warnings
import webdataset

print("webdataset", importlib.metadata.version("webdataset"))
warnings.simplefilter("error", UserWarning)
names = ["aB3-x_00:03:10.567_00:03:10.900", "aB3-x_00:03:10.900_00:03:12.200", "aB3-x_00:03:13.000_00:03:14.000"]


def read(keys):
    with webdataset.TarWriter("clips.tar") as tar:
        for key in keys:
            tar.write({"__key__": key, "mp4": b"video", "txt": "a caption"})
    return [
        (sample["__key__"], sorted(field for field in sample if not field.startswith("__")))
        for sample in webdataset.WebDataset("clips.tar", shardshuffle=False)
    ]


found = read(names)
for key, fields in found:
    print(f"key {key}: {', '.join(fields)}")
assert [key for key, _ in found] == ["aB3-x_00:03:10", "aB3-x_00:03:13"], "keys with dots come back otherwise"
assert [len(fields) for _, fields in found] == [4, 2] and "mp4" not in found[1][1]
safe = [name.replace(".", "-") for name in names]
assert read(safe) == [(key, ["mp4", "txt"]) for key in safe]
print("without dots in the keys: three samples with mp4 and txt")
EOF
