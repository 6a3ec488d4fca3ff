"""Videos as HTML: the newest frame of each while they are sampled, then the whole, with every frame in a strip."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video.sampled_video import Video

Pixels = UInt8[np.ndarray, "H W 3"]


def picture(frame: Pixels, about: str, kind: str = "frame") -> str:
    """A frame as an `img` that holds its exact pixels."""
    return f'<img class="{kind}" src="{_png(frame)}" alt="{html.escape(about)}">'


def cards_while_sampled(frames: UInt8[np.ndarray, "B H W 3"], labels: Sequence[str], number: int, total: int) -> str:
    """The newest frame of each video, and how far they are.

    Args:
      frames: of all videos, of one time.
      labels: of the videos.
      number: of the frame, from 0 on.
      total: frames of each video.
    """
    done = f'<progress max="{total}" value="{number + 1}" aria-label="frames sampled"></progress>'
    parts = [
        _card(picture(frame, f"{label}, frame {number}"), label) for frame, label in zip(frames, labels, strict=True)
    ]
    return f'{done}<div class="videos">{"".join(parts)}</div>'


def finished_cards(videos: Sequence[Video], labels: Sequence[str]) -> str:
    """Videos that play, each above its frames."""
    return f'<div class="videos">{"".join(map(_finished_card, videos, labels))}</div>'


def _finished_card(video: Video, label: str) -> str:
    address = f"data:image/webp;base64,{base64.b64encode(video.to_bytes('.webp', recipe=False)).decode()}"
    # Who asked for less motion gets the first frame, and the strip.
    whole = (
        f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{_png(video[0])}">'
        f'<img class="frame" src="{address}" alt="{html.escape(f"{label}, {len(video)} frames")}"></picture>'
    )
    strip = "".join(
        f"<figure>{picture(frame, f'{label}, frame {number}', 'small')}<figcaption>{number}</figcaption></figure>"
        for number, frame in enumerate(video)
    )
    about = html.escape(f"frames of {label}")
    return _card(whole, label, f'<div class="strip" role="group" tabindex="0" aria-label="{about}">{strip}</div>')


def _card(whole: str, label: str, strip: str = "") -> str:
    return f"<figure>{whole}<figcaption>{html.escape(label)}</figcaption>{strip}</figure>"


def _png(frame: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
