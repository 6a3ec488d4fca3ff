#!/usr/bin/env bash
# yuvio 1.6. Raw 4:2:0 video of an odd width or height has chroma planes of (width + 1) / 2 by (height + 1) / 2; so FFmpeg
# and all decoders write it. yuvio.mimread should read that, or refuse the size.
# It rounds down instead. The first luma plane is right, all planes after it are taken from the wrong place, and each frame
# begins earlier than it should, by more every time. Of 16 frames of 33 x 33 pixels it reads 16, none of them as written but
# for the luma of the first, without an error or a warning. Frames of even sizes are as written.
# Crops of generated frames, and frames scaled by a factor, are often odd.
# Do instead: crop or pad to even sizes before writing raw video, and check that the file's length is a multiple of a frame's.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check yuvio==1.6 av==18.1.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, pathlib, warnings

import av
import numpy as np
import yuvio

print("yuvio", importlib.metadata.version("yuvio"))
warnings.simplefilter("error")


def right(width, height):
    """Returns for each frame that yuvio reads whether its planes are those that FFmpeg wrote to the raw file."""
    rows, columns = np.mgrid[:height, :width]
    planes, parts = [], []
    with av.open("clip.nut", "w") as file:
        stream = file.add_stream("rawvideo", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(16):
            frame = av.VideoFrame(width, height, "yuv420p")
            planes.append([])
            for index, plane in enumerate(frame.planes):
                values = (rows[:plane.height, :plane.width] * 3 + columns[:plane.height, :plane.width] * 5 + number * 7 + index * 60) % 256
                wide = np.zeros((plane.height, plane.line_size), np.uint8)
                wide[:, :plane.width] = values
                plane.update(wide.tobytes())
                planes[-1].append(values)
            parts += [bytes(packet) for packet in stream.encode(frame)]
    pathlib.Path("clip.yuv").write_bytes(b"".join(parts))
    read = yuvio.mimread("clip.yuv", width, height, "yuv420p")
    same = [[plane.shape == true.shape and bool((plane == true).all()) for plane, true in zip(frame.split(), wanted)]
            for frame, wanted in zip(read, planes)]
    return len(parts), len(read), same


for width, height in ((32, 32), (33, 33), (33, 32)):
    written, read, same = right(width, height)
    print(f"{width} x {height}: {written} frames written, {read} read, equal ones {sum(map(all, same))}, first frame's planes {same[0]}")
    if width == 32:
        assert read == written and all(map(all, same))
    else:
        assert not any(map(all, same)) and same[0] == [True, False, False], "odd sizes are read as FFmpeg writes them"
        assert not any(luma for luma, *_ in same[1:]) and read >= written
EOF
