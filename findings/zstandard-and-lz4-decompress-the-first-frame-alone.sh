#!/usr/bin/env bash
# zstandard 0.25.0 and lz4 4.4.5. Compressed files may be put one behind the other: gzip.decompress, bz2.decompress and lzma.decompress
# give the contents of all of them, and the formats of Zstandard and LZ4 allow the same. Captions that are appended day by day, shards
# that are joined with cat, and files of compressors with several threads are of this kind.
# zstandard.decompress and ZstdDecompressor.decompress return the contents of the first frame and forget the rest, and so does
# lz4.frame.decompress: no error, no warning, a shorter text that ends with a whole line. zstandard.open, stream_reader and
# lz4.frame.open of the same bytes read all, so that a check by another way of reading shows nothing missing in the file.
# Do instead: read through zstandard.open(path) or stream_reader(file).read(), and lz4.frame.open(path), or pass allow_extra_data=False.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check zstandard==0.25.0 lz4==4.4.5
cd "$work"
venv/bin/python - <<'EOF'
import bz2
import gzip
import importlib.metadata
import io
import lzma

import lz4.frame
import zstandard

print("zstandard", importlib.metadata.version("zstandard"), "lz4", importlib.metadata.version("lz4"))
days = [b"".join(b"clip %d: a dog of day %d\n" % (clip, day) for clip in range(1000)) for day in range(3)]
whole = b"".join(days)


def lines(data):
    return data.count(b"\n")


for module in (gzip, bz2, lzma):
    assert module.decompress(b"".join(map(module.compress, days))) == whole
print(f"gzip, bz2 and lzma: {lines(whole)} of {lines(whole)} captions")

data = b"".join(map(zstandard.compress, days))
with open("captions.zst", "wb") as file:
    file.write(data)
short = {"zstandard.decompress": zstandard.decompress(data), "ZstdDecompressor().decompress": zstandard.ZstdDecompressor().decompress(data)}
with zstandard.open("captions.zst", "rb") as file:
    full = {"zstandard.open": file.read(), "stream_reader": zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()}
data4 = b"".join(map(lz4.frame.compress, days))
with open("captions.lz4", "wb") as file:
    file.write(data4)
short["lz4.frame.decompress"] = lz4.frame.decompress(data4)
with lz4.frame.open("captions.lz4") as file:
    full["lz4.frame.open"] = file.read()
for name, found in (full | short).items():
    print(f"{name}: {lines(found)} captions")
assert all(found == whole for found in full.values())
assert all(found == days[0] for found in short.values()), "all frames are decompressed now"
try:
    zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
except zstandard.ZstdError as error:
    print("with allow_extra_data=False:", error)
else:
    raise AssertionError("more frames are taken with allow_extra_data=False")
EOF
