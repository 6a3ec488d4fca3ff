#!/usr/bin/env bash
# PyAV 18.1.0 (libx264). crf=0 on yuv420p should be ordinary 4:2:0 video, only with no loss: the
# pixel format of the stream is yuv420p, after all.
# The stream's profile is "High 4:4:4 Predictive", since lossless coding (the transform bypass) exists in
# no other profile; several browsers and most hardware decoders refuse it, whatever the chroma.
# crf=1 is High. Asking for profile=high with crf=0 does not help: the encoder refuses to open.
# Rating pages and demo pages with "lossless" clips show nothing. Do instead: crf=1 or more for the web.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import io
import av, numpy as np

av.logging.set_level(None)
print("PyAV", av.__version__)


def profile(**options):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), "rgb24")))
        out.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        context = container.streams.video[0].codec_context
        return f"{context.profile}, {context.pix_fmt}"


seen = {crf: profile(crf=crf) for crf in ("0", "1", "16")}
for crf, found in seen.items():
    print(f"crf={crf}: {found}")
expected = {"0": "High 4:4:4 Predictive, yuv420p", "1": "High, yuv420p", "16": "High, yuv420p"}
assert seen == expected, "x264 marks its profiles in another way."
try:
    profile(crf="0", profile="high")
except av.error.ArgumentError as error:
    print("crf=0, profile=high:", type(error).__name__)
else:
    raise SystemExit("crf=0 was coded in profile High.")
EOF
