"""Targets of words and small files: configs, overrides, captions, the `.json` beside a video, logs."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from cdcd_video import request
from cdcd_video.config import Config, config_file
from cdcd_video.config.video_record import SAMPLING, FrameRecord, Record
from cdcd_video.engine.compare_runs import read_log
from cdcd_video.engine.log import Journal
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.model import SHIPPED
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.tools.dev.fuzzing.mutate import TOKENS, as_json, mutated, mutated_json
from cdcd_video.tools.dev.fuzzing.target import Target

SMALL = b"""\
name: small
seed: 3
data: {kind: sprites, num_clips: 8, motions: [moves left, stays still], size_px: 32}
codec: {layers: [0, 1], quantizer: {kind: fsq, levels: [4, 4]}}
diffusion: {process: {kind: hybrid, mask: 0.5}, num_steps: 8}
loss: {contrast: {frame_text: 0.02, level: step}, cdcd: {intra: 5e-5}}
train:
  codec: {num_steps: 60, learning_rate: 3e-3, precision: fp32}
"""
OVERRIDES = (b"train.codec.num_steps=100", b"loss.contrast={frame_frame: 0.1}", b"data.motions=[spins]", b"name=x")
CAPTIONS = (
    *(b"the small red circle moves right and the blue square stays still", b"8: it stops", b"0:the star spins"),
    *(
        b"A man is playing a guitar.",
        "ein Kreis geht nach rechts \u00e4\u00f6\u00fc".encode(),
        "\u732b\u304c\u8d70\u308b".encode(),
    ),
)
LOG = b"""\
{"task": "codec", "step": 10, "time_s": 1.5, "lr": 0.001, "loss": 0.5, "terms": {"embed": 0.1}}
{"task": "codec", "step": 20, "time_s": 2.5, "evaluation": {"psnr_db": 21.0}, "alarms": []}
"""


def targets(scratch: Path) -> list[Target]:
    """All targets of this file.

    Args:
      scratch: where valid examples may be made.
    """
    protocol = (config_file.__file__ and Path(config_file.__file__).parents[2]) / "configs" / "eval"
    protocols = [path.read_bytes() for path in sorted(protocol.glob("*.yaml"))] or [b"num_videos: 8\n"]
    tokenizer = FrozenClip(SHIPPED / "sprites" / "clip")
    record = _record(scratch)

    def put_config(folder: Path, rng: np.random.Generator) -> None:
        (folder / "x.yaml").write_bytes(mutated(SMALL, [SMALL], rng))

    def put_protocol(folder: Path, rng: np.random.Generator) -> None:
        (folder / "x.yaml").write_bytes(mutated(protocols[int(rng.integers(len(protocols)))], protocols, rng))

    def put_override(folder: Path, rng: np.random.Generator) -> None:
        (folder / "words").write_bytes(
            mutated(OVERRIDES[int(rng.integers(len(OVERRIDES)))], [*OVERRIDES, *TOKENS], rng)
        )

    def put_caption(folder: Path, rng: np.random.Generator) -> None:
        (folder / "words").write_bytes(mutated(CAPTIONS[int(rng.integers(len(CAPTIONS)))], [*CAPTIONS, *TOKENS], rng))

    def put_record(folder: Path, rng: np.random.Generator) -> None:
        (folder / "x.json").write_bytes(as_json(mutated_json(record, rng), rng))

    def put_log(folder: Path, rng: np.random.Generator) -> None:
        (folder / "log.jsonl").write_bytes(mutated(LOG, [LOG], rng))

    def read_words(folder: Path) -> str:
        return (folder / "words").read_bytes().decode("utf-8", "surrogateescape")  # as a command line brings them

    def read_override(folder: Path) -> object:
        (folder / "small.yaml").write_bytes(SMALL)
        return config_file.load(folder / "small.yaml", Config, [read_words(folder)])

    def read_caption(folder: Path) -> object:
        return [tokenizer.check_caption(sentence) for _, sentence in request.parse_captions([read_words(folder)]).turns]

    def read_record(folder: Path) -> object:
        asked = dict.fromkeys(("frame", "text", "scale", "checkpoint", "device", *SAMPLING))
        return request.read_request({**asked, "from_json": str(folder / "x.json")})

    def read_a_log(folder: Path) -> object:
        read_log(folder)
        return Journal(folder / "log.jsonl", "codec").rewind(15)

    def load(model: type) -> object:
        return lambda folder: config_file.load(folder / "x.yaml", model)

    return [
        Target("config", 10, put_config, load(Config)),
        Target("config override", 8, put_override, read_override),
        Target("evaluation protocol", 3, put_protocol, load(Protocol)),
        Target("caption", 20, put_caption, read_caption),
        Target("video record", 6, put_record, read_record),
        Target("run log", 5, put_log, read_a_log),
    ]


def _record(scratch: Path) -> dict[str, object]:
    """The `.json` beside a video, as `inference.py` writes it."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(scratch / "frame.png")
    frame = FrameRecord.of(np.zeros((8, 8, 3), np.uint8))
    params = dict(num_frames=4, fps=8.0, num_steps=2, guidance=1.0, temperature=0.3, top_p=1.0, seed=3)
    record = Record(
        **dict(video="x.mp4", checkpoint="sprites", model="sprites", model_sha256="0" * 64, text=[(0, "it spins")]),
        **dict(**params, scale=4, device="cpu", threads=1, versions={"torch": "2"}, frame=frame),
    )
    return json.loads(record.model_dump_json())
