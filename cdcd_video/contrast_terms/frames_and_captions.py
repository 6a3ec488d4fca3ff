"""The frame-frame and frame-text terms: embedded soft codes, with positives and negatives from the batch."""

import torch
from jaxtyping import Float
from torch import Tensor

from cdcd_video.config import CONTRAST_TERMS
from cdcd_video.contrast.negatives import reordered
from cdcd_video.contrast_terms.term_inputs import Candidates, Comparison, TermInputs


@CONTRAST_TERMS.register("frame_frame")
def frame_frame(inputs: TermInputs) -> Comparison:
    """The predicted frame and its earlier frame, against other clips, a far frame and shuffled chunks."""
    return Comparison(inputs.embedding, earlier_frames(inputs))


@CONTRAST_TERMS.register("frame_text")
def frame_text(inputs: TermInputs) -> Comparison:
    """The predicted frame, or the step to it, and its caption, against other captions."""
    batch, encoder, rows = inputs.batch, inputs.step_encoder, len(inputs.soft_codes)
    if encoder is None:
        return Comparison(inputs.embedding, captions(batch.text.embedding[:rows], inputs))
    values, source = inputs.codec.soft_values(inputs.soft_codes), inputs.codec.values(batch.source[:rows])
    step = encoder.encode_step(source, values, batch.gap_s[:rows], batch.grid)
    return Comparison(step, captions(encoder.encode_text(batch.text)[:rows], inputs))


def captions(embedding: Float[Tensor, "B J"], inputs: TermInputs) -> Candidates:
    """Positives and negatives of the frame-text term: equal captions are not each other's negatives."""
    caption = inputs.batch.caption[: len(embedding)]
    return Candidates(embedding, caption[:, None] != inputs.reduce.gather(caption, inputs.num_rows))


@torch.no_grad()
def earlier_frames(inputs: TermInputs) -> Candidates:
    """Positives and negatives of the frame-frame term; see `weighted_terms.contrast_terms`."""
    batch, codec, cfg, reduce, rows = inputs.batch, inputs.codec, inputs.cfg, inputs.reduce, len(inputs.soft_codes)
    source, target, far, clip = (value[:rows] for value in (batch.source, batch.target, batch.far, batch.clip))
    own = [far[:, None]] if cfg.far else []
    is_wrong = [(far != source).any(1, keepdim=True)] if cfg.far else []
    if cfg.shuffled:
        assert inputs.orders is not None, "shuffled negatives need orders of the chunks"
        shuffled = reordered(target, inputs.orders)
        own.append(shuffled)
        is_wrong.append((shuffled != target[:, None]).any(-1) & (shuffled != source[:, None]).any(-1))
    is_other = (clip[:, None] != reduce.gather(clip, inputs.num_rows)) & cfg.inter
    if not own:
        return Candidates(codec.embed(source, batch.grid), is_other)
    codes = torch.cat([source[:, None], *own], 1)
    embedded = codec.embed(codes.flatten(0, 1), batch.grid).unflatten(0, codes.shape[:2])
    return Candidates(embedded[:, 0], is_other, embedded[:, 1:], torch.cat(is_wrong, 1))
