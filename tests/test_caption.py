"""Captions as they are typed: which sentence holds from which frame on."""

import pytest

from cdcd_video.errors import UserError
from cdcd_video.sampling.captions import CaptionSchedule, parse_captions


@pytest.mark.parametrize(
    "sentence",
    ["3:30 pm on a busy road", "16:9 shot of a beach", "0:00 on the clock", "12:30", "2:1 slow motion", " 7:5 it ends"],
)
def test_a_number_a_colon_and_a_digit_begin_a_sentence(sentence: str):
    assert parse_captions([sentence]).turns == ((0, sentence),)
    assert parse_captions([f"0: {sentence}", f"8: {sentence}"]).turns == (
        (0, sentence.strip()),
        (8, sentence.strip()),
    )


@pytest.mark.parametrize(
    ("texts", "pairs"),
    [
        (["0:it moves", "8:it stops"], [(0, "it moves"), (8, "it stops")]),
        ([" 8 it moves", "8:\tit stops"], [(0, " 8 it moves"), (8, "it stops")]),
        (["8: it stops", "it moves"], [(0, "it moves"), (8, "it stops")]),
        (["0: 3: the film begins"], [(0, "3: the film begins")]),
        (["1234567890: it moves"], [(0, "1234567890: it moves")]),
    ],
)
def test_a_sentence_from_a_frame_on(texts: list[str], pairs: list[tuple[int, str]]):
    assert list(parse_captions(texts).turns) == pairs


def test_a_refusal_quotes_the_caption_and_shows_how_to_write_it():
    with pytest.raises(UserError, match="'the film begins', begins at frame 3") as refused:
        parse_captions(["3: the film begins"])
    assert '"0: 3: ..."' in str(refused.value)


def test_captions_of_python_are_taken_word_by_word():
    assert CaptionSchedule.of("8: it stops").turns == ((0, "8: it stops"),)
    assert CaptionSchedule.of([(8, "it stops"), (0, "3:30 pm")]).turns == (
        (0, "3:30 pm"),
        (8, "it stops"),
    )


@pytest.mark.parametrize("caption", ["caf\udce9", [(0, "it moves"), (4, "caf\udce9")]])
def test_bytes_that_are_no_text_are_refused(caption):
    with pytest.raises(UserError, match="UTF-8"):
        CaptionSchedule.of(caption)
