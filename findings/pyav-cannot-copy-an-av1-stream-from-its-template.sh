#!/usr/bin/env bash
# PyAV 18.1.0. Remuxing needs no encoder, so `output.add_stream_from_template(stream)`, which works
# for H.264, should work for an AV1 stream as well.
# It raises UnknownCodecError('libdav1d'): PyAV looks for an encoder by the name of the decoder that
# reads the template. H.264's decoder is called h264 as the codec is, and under that name an encoder
# is found; AV1's is called libdav1d, which only decodes.
# Cutting or copying AV1 web videos without loss fails though every packet is there.
# Do instead: add_stream_from_template(stream, opaque=True), which looks for no codec.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import io, os

os.environ["SVT_LOG"] = "1"  # the AV1 encoder prints errors only
import av, numpy as np

av.logging.set_level(None)
print("PyAV", av.__version__)


def video(encoder):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream(encoder, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 30 * i, np.uint8), "rgb24")))
        out.mux(stream.encode())
    file.seek(0)
    return file


def copy(file, **options):
    copied = io.BytesIO()
    with av.open(file) as source, av.open(copied, "w", format="mp4") as out:
        stream = out.add_stream_from_template(source.streams.video[0], **options)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    copied.seek(0)
    with av.open(copied) as source:
        return len(list(source.decode(video=0)))


print("H.264:", copy(video("libx264")), "frames copied")
try:
    copy(video("libsvtav1"))
except av.codec.codec.UnknownCodecError as error:
    print("AV1: UnknownCodecError:", error)
else:
    raise SystemExit("An AV1 stream was copied without opaque=True.")
frames = copy(video("libsvtav1"), opaque=True)
print("AV1, opaque=True:", frames, "frames copied")
assert frames == 5, "opaque=True lost frames."
EOF
