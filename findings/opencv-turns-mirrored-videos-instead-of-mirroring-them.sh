#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93. OpenCV obeys a video's display matrix, as FFmpeg does (its flag
# CAP_PROP_ORIENTATION_AUTO is on), so a video that the matrix mirrors should be shown mirrored.
# OpenCV keeps only an angle of the matrix: a video mirrored left-right is turned by 180 degrees,
# one mirrored top-bottom is left as coded, and one mirrored and turned is turned only. FFmpeg's
# command shows all three as the matrix says. So of selfie-camera footage, frames by OpenCV
# and by ffmpeg disagree, and captions ("moves left") fit only one of them.
# Do instead: let ffmpeg decode, or read the matrix yourself and flip.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check opencv-python-headless==5.0.0.93 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import subprocess
import cv2, imageio_ffmpeg, numpy as np

print("OpenCV", cv2.__version__, "and the FFmpeg", imageio_ffmpeg.get_ffmpeg_version())
W, H = 64, 48
COLOURS = {"R": (220, 40, 40), "G": (40, 200, 40), "B": (40, 40, 220), "W": (230, 230, 230)}


def ffmpeg(*arguments, **options):
    return subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments], check=True, **options)


def corners(frame):
    """The colours of the four quarters, row by row."""
    h, w = frame.shape[:2]
    pixels = (frame[y, x].astype(int) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4))
    return "".join(min(COLOURS, key=lambda c: np.abs(pixel - COLOURS[c]).sum()) for pixel in pixels)


picture = np.array([[COLOURS["R"], COLOURS["G"]], [COLOURS["B"], COLOURS["W"]]], np.uint8).repeat(H // 2, 0).repeat(W // 2, 1)
ffmpeg("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{W}x{H}", "-r", "10", "-i", "-",
       "-c:v", "libx264", "-pix_fmt", "yuv420p", "plain.mp4", input=picture.tobytes() * 5)
print("as coded:", corners(picture))
seen = {}
for name, matrix in {
    "left-right": ["-display_rotation", "0", "-display_hflip"],
    "top-bottom": ["-display_rotation", "0", "-display_vflip"],
    "mirrored and turned": ["-display_rotation", "90", "-display_hflip"],
}.items():
    ffmpeg(*matrix, "-i", "plain.mp4", "-c", "copy", "shown.mp4")
    by_opencv = cv2.VideoCapture("shown.mp4").read()[1][..., ::-1]
    raw = ffmpeg("-i", "shown.mp4", "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-", stdout=subprocess.PIPE).stdout
    by_ffmpeg = np.frombuffer(raw, np.uint8).reshape(by_opencv.shape)
    seen[name] = corners(by_ffmpeg), corners(by_opencv)
    print(f"{name}: ffmpeg shows {seen[name][0]}, OpenCV {seen[name][1]}")
expected = {"left-right": ("GRWB", "WBGR"), "top-bottom": ("BWRG", "RGBW"), "mirrored and turned": ("WGBR", "GWRB")}
assert seen == expected, "One of the two now shows mirrored videos in another way."
EOF
