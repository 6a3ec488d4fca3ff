#!/usr/bin/env bash
# ttconv 1.2.3. In TTML the times of a <p> count from the begin of its <div>: in a <div begin="60s">, a <p> from 1 to 5 s is shown
# from 61 to 65 s. A <div> needs no end; without one it lasts as long as what it holds.
# Where the <div> or the <body> has a begin and no end, the begin is added to the start of a <p> and not to its end: the end of
# the <div> is taken from the last <p> without it. With a begin of 3 s the caption is shown from 4 to 5 s, not to 8; with 60 s it
# would end before it starts, and is left out of SubRip and WebVTT, without an error or a warning. With an end in the <div> all is
# right. So of a file in chapters the first is right, the second has short captions, and the rest has none.
# Do instead: give each <div> and the <body> an end before to_model, e.g. end="24h"; compare the number of captions.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check ttconv==1.2.3 srt==3.5.3
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata, io, logging
import xml.etree.ElementTree as ElementTree

import srt, ttconv.imsc.reader, ttconv.srt.writer

logging.disable(logging.INFO)
print("ttconv", importlib.metadata.version("ttconv"))


def captions(body):
    """Start and end in seconds, and text, of what the SubRip writer makes of the body."""
    text = f'<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en">{body}</tt>'
    model = ttconv.imsc.reader.to_model(ElementTree.parse(io.StringIO(text)))
    cues = srt.parse(ttconv.srt.writer.from_model(model))
    found = [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in cues]
    print(body, "->", found)
    return found


caption = '<p begin="1s" end="5s">a dog runs</p>'
for begin in (0, 1, 3, 60):
    right = [(begin + 1, begin + 5, "a dog runs")]
    assert captions(f'<body><div begin="{begin}s" end="24h">{caption}</div></body>') == right
    found = captions(f'<body><div begin="{begin}s">{caption}</div></body>')
    assert found == ([(begin + 1, 5, "a dog runs")] if begin + 1 < 5 else []), "the end of a caption is found otherwise now"
    assert captions(f'<body begin="{begin}s"><div>{caption}</div></body>') == found
PY
