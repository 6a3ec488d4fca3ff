#!/usr/bin/env bash
# tfrecord 1.14.6, which reads and writes TFRecord files without TensorFlow. Bytes should come back as they were written. One
# value of bytes does. A list of several, such as the raw or compressed frames of a clip, comes back as a NumPy array of the type
# S, which pads every value with zeros to the longest and drops all zeros at the end of a value when it is read. So a frame whose
# last pixels are black loses them, a black frame becomes an empty one, and where a mask is all zeros nothing is left.
# np.frombuffer(...).reshape then fails for some clips only, or a mask that is read without a shape is silently shorter. A list of
# one is plain bytes, not an array, and keeps its zeros, so that a test with one frame passes. Do instead: one feature for each
# frame, all frames in one value with their shape beside it, or a codec that does not end in zeros.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tfrecord==1.14.6 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
import tfrecord

print("tfrecord", importlib.metadata.version("tfrecord"))
rows = np.zeros((3, 4, 4), np.uint8)
rows[0], rows[1, :2] = 7, 9  # a grey frame, one with a black lower half, a black one
frames = [frame.tobytes() for frame in rows]
writer = tfrecord.TFRecordWriter("clips.tfrecord")
writer.write({"frames": (frames, "byte"), "last": (frames[2], "byte"), "one": (frames[1:2], "byte")})
writer.close()
(example,) = tfrecord.tfrecord_loader("clips.tfrecord", None, {"frames": "byte", "last": "byte", "one": "byte"})
lengths = [len(value) for value in example["frames"]]
print("type of the list:", example["frames"].dtype, "- of a single value:", type(example["last"]).__name__)
print("bytes written:", [len(frame) for frame in frames], "read:", lengths)
assert lengths == [16, 8, 0], "the values of a list of bytes keep their length"
assert example["last"] == frames[2] and example["one"] == frames[1], "a single value is not as it was written"
EOF
