"""Converts decoded frames to sRGB as players show them: matrix, HDR to SDR, transparency over white, rotation."""

import functools
import math
from typing import Any, Literal

import av
import numpy as np
from av.sidedata.sidedata import Type
from jaxtyping import Float32, UInt8

from cdcd_video.data.images import over_white

# swscale's default rounding darkens every channel by about 1 of 255; these flags (bilinear chroma at full resolution,
# accurate rounding, the same bits on every processor) do not.
_EXACT_SWSCALE = 0x2 | 0x2000 | 0x40000 | 0x80000

# Numbers of ITU-T H.273, which FFmpeg keeps to.
_UNKNOWN = (0, 2, 3)  # for YCbCr: RGB is no matrix of it, and the others say nothing
_BT709, _BT601, _BT2020 = 1, 5, 9
_MATRICES = (1, 4, 5, 6, 7, 9)  # those that swscale has
_HD_LINES = 720
_LINEAR, _PQ, _HLG = 8, 16, 18
_UNREAD_TRANSFERS = {9: "logarithmic", 10: "logarithmic", 17: "SMPTE 428"}

_UNSAFE_SIDE_DATA = ("png", "apng")

_WHITE_NITS = 203
"""Luminance of HDR reference white (ITU-R BT.2408)."""
_HLG_NITS = 1000
"""Peak luminance of the display for which HLG's system gamma is 1.2 (ITU-R BT.2100)."""

# Chromaticities (x, y) of red, green and blue (H.273). The white of cinemas (11) is shown as any other white.
_PRIMARIES = {
    _BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    _BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


Placing = tuple[int, int, int, int]
"""a, b, c, d of a display matrix: the pixel at (x, y) is shown at (a x + c y, b x + d y), but for where the picture begins."""
AS_CODED: Placing = (1, 0, 0, 1)


class Refused(Exception):
    """The reason why a clip is refused; becomes a `ClipRejected` where the path is known."""


def to_srgb(
    frame: av.VideoFrame, placing: Placing = AS_CODED, default_matrix: int | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels of a frame as players show it, in sRGB.

    Frames that name no matrix are BT.709 from 720 lines on and BT.601 below, as players take them. PQ and HLG (ITU-R
    BT.2100) become SDR in which 203 cd/m2 are white; what is brighter is as bright as white. BT.2020's and P3's colours
    become sRGB's; those that sRGB does not have, the nearest channel by channel. Transparency is laid over white.

    Args:
      frame: as it was decoded, of any format.
      placing: how it is mirrored and turned, see `placing_of`.
      default_matrix: that of a codec which has but one, where the frame names none.

    Raises:
      Refused: for codings of colour that are not read here.
    """
    kind = frame.format
    has_alpha = kind.name == "pal8" or any(component.is_alpha for component in kind.components)
    transfer, primaries, matrix = frame.color_trc, frame.color_primaries, frame.colorspace
    is_hdr = transfer in (_PQ, _HLG)
    if transfer in _UNREAD_TRANSFERS:
        raise Refused(f"its transfer function is not supported ({_UNREAD_TRANSFERS[transfer]})")
    if not kind.is_rgb and matrix not in _MATRICES:
        if matrix not in _UNKNOWN:
            what = "its HDR colours are" if is_hdr else "its colours are"
            raise Refused(f"{what} coded with an unsupported matrix (number {matrix} of H.273); convert it to SDR")
        by_lines = _BT709 if frame.height >= _HD_LINES else _BT601
        matrix = _BT2020 if is_hdr or primaries == _BT2020 else default_matrix or by_lines
    if primaries not in _PRIMARIES:
        primaries = _BT2020 if is_hdr or matrix == _BT2020 else _BT709
    if primaries == _BT709 and not is_hdr and transfer != _LINEAR:
        layout = "rgba" if has_alpha else "rgb24"
        rgb = _converted(frame, layout, matrix)
    else:
        # Planes, because swscale lets 16-bit rgb48 overflow where chroma is brought to full resolution.
        rgb = _converted(frame, "gbrap16le" if has_alpha else "gbrp16le", matrix)
        colours = _to_srgb(rgb[..., :3], transfer, primaries)
        rgb = np.concatenate([colours, _eight_bits(rgb[..., 3:])], axis=2) if has_alpha else colours
    return _upright(over_white(rgb) if has_alpha else rgb, placing)


def placing_of(frame: av.VideoFrame, codec: str) -> Placing:
    """How a frame is mirrored and turned, by its display matrix.

    Args:
      frame: as it was decoded.
      codec: FFmpeg's name of what it was decoded from.
    """
    data = None
    try:
        # Of these PyAV (18.1) is not asked: a process may end by it. A rotation it tells apart; of what is mirrored, too, only
        # the turn is known then.
        if codec in _UNSAFE_SIDE_DATA:
            raise ValueError
        side_data: Any = frame.side_data  # PyAV types it as a mapping without keys of this kind
        data = side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # it does not know every kind of side data either, and then gives none
        angle = math.radians(frame.rotation)
        a, b = round(math.cos(angle)), round(math.sin(angle))
        return a, -b, b, a
    if data is None:
        return AS_CODED
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def is_turned(placing: Placing) -> bool:
    """Whether a frame is shown with its rows upright: by a quarter turn, mirrored or not."""
    a, b, c, d = placing
    return abs(b) + abs(c) > abs(a) + abs(d)


def orientation(placing: Placing) -> Literal["as coded", "turned", "mirrored"]:
    """What a display matrix makes of a frame; a mirrored one may be turned, too."""
    a, b, c, d = placing
    if a * d - b * c < 0:
        return "mirrored"
    return "as coded" if a > 0 and not is_turned(placing) else "turned"


def _converted(frame: av.VideoFrame, layout: str, matrix: int) -> np.ndarray:
    frame.colorspace = matrix  # some versions of PyAV heed the argument alone, some the frame
    # One thread: a forked process that frees what several have converted waits for threads that it does not have.
    return frame.reformat(format=layout, interpolation=_EXACT_SWSCALE, src_colorspace=matrix, threads=1).to_ndarray()


def _upright(rgb: np.ndarray, placing: Placing) -> np.ndarray:
    """Turned and mirrored by quarter turns; other matrices are ignored."""
    a, b, c, d = placing
    if is_turned(placing):
        rgb, right, down = rgb.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return np.ascontiguousarray(rgb[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _to_srgb(rgb: np.ndarray, transfer: int, primaries: int) -> UInt8[np.ndarray, "H W 3"]:
    """16-bit code values to sRGB: to light, to sRGB's primaries, and back. Tables, so that all processors agree."""
    light = _light_of(transfer)[rgb]
    to_xyz = _rgb_to_xyz(primaries)
    if transfer == _HLG:  # the brighter the scene, the more contrast (BT.2100, table 5)
        scene = sum(np.float32(weight) * light[..., band] for band, weight in enumerate(to_xyz[1]))
        light *= _hlg_gain()[(scene * 65535 + np.float32(0.5)).astype(np.uint16)][..., None]
    if primaries != _BT709:
        change = (np.linalg.inv(_rgb_to_xyz(_BT709)) @ to_xyz).astype(np.float32)
        light = np.stack([sum(row[band] * light[..., band] for band in range(3)) for row in change], axis=-1)
    return _code_of()[(light.clip(0, 1) * 65535 + np.float32(0.5)).astype(np.uint16)]


def _eight_bits(wide: np.ndarray) -> np.ndarray:
    return ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)


@functools.cache
def _light_of(transfer: int) -> Float32[np.ndarray, " 65536"]:
    """Light of each code value, 1 for white; of HLG that of the scene, 1 for the brightest."""
    code = np.minimum(np.arange(65536) / (255 * 256), 1)  # swscale's white, of whatever depth it came
    if transfer == _PQ:  # SMPTE ST 2084
        root = code ** (32 / 2523)
        light = (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
        light *= 10_000 / _WHITE_NITS
    elif transfer == _HLG:  # BT.2100: the inverse OETF
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    elif transfer == _LINEAR:
        light = code
    else:  # SDR goes to light and back by one curve, so that greys stay; as the screen is sRGB, by sRGB's
        light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@functools.cache
def _hlg_gain() -> Float32[np.ndarray, " 65536"]:
    """By how much the screen multiplies the light of a scene, for each level of its luminance; 1 for white."""
    return ((np.arange(65536) / 65535) ** 0.2 * (_HLG_NITS / _WHITE_NITS)).astype(np.float32)


@functools.cache
def _code_of() -> UInt8[np.ndarray, " 65536"]:
    """sRGB's code of each level of light (IEC 61966-2-1)."""
    light = np.arange(65536) / 65535
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * code).astype(np.uint8)


@functools.cache
def _rgb_to_xyz(primaries: int) -> np.ndarray:
    """3 x 3, by chromaticities of the primaries and of D65, for which RGB (1, 1, 1) has luminance 1."""
    corners, white = (
        np.array([(x / y, 1, (1 - x - y) / y) for x, y in points]).T for points in (_PRIMARIES[primaries], (_D65,))
    )
    return corners * np.linalg.solve(corners, white[:, 0])
