"""What happens when a field of the page is used. Every mistake of a visitor is a sentence on the page."""

import functools
import html
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cdcd_video.config.ranges import plain_number
from cdcd_video.config.value_types import Fit
from cdcd_video.config.video_record import read_record
from cdcd_video.errors import UserError
from cdcd_video.studio import start_frame
from cdcd_video.studio.downloads import WRITTEN, write_files
from cdcd_video.studio.model_shelf import LoadedModel, ModelShelf
from cdcd_video.studio.sampling_session import SamplingSession, parse_timeline
from cdcd_video.studio.setting_fields import AS_TRAINED, FURTHER, MAIN, fit_from, settings_from
from cdcd_video.studio.start_frame import StartFrame
from cdcd_video.studio.studio_limits import Limits
from cdcd_video.studio.temporary_files import by_its_name, uploaded
from cdcd_video.studio.training_paths import path_plot
from cdcd_video.studio.video_cards import cards_while_sampled, finished_cards, picture

_REFUSED_PX = 256
"""Longer side of a picture that no model gets, as it is shown."""


def on_page(error: UserError) -> Exception:
    """An error of a visitor as a message on the page."""
    import gradio as gr

    return gr.Error(html.escape(str(error)), duration=None, print_exception=False)


def in_a_sentence(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose `UserError` is a message on the page; what else fails is a traceback in the terminal."""

    @functools.wraps(function)
    def handler(*given: Any) -> Any:
        try:
            return function(*given)
        except UserError as error:
            raise on_page(error) from None

    return handler


class PageEvents:
    """The handlers of the page. What belongs to a visitor comes in and goes out as Gradio's state."""

    def __init__(self, shelf: ModelShelf, limits: Limits):
        self._shelf, self._limits = shelf, limits

    def start_view(self, start: StartFrame, text: str, loaded: LoadedModel, fit: Fit | None) -> str:
        """The starting frame as the model gets it, with what is to be said of it; as it is given, where it is refused."""
        try:
            frame, on_sides = loaded.pipe.sizes.fitted(start.pixels, fit)
        except UserError as error:
            return _start_figure(start_frame.shrunk(start.pixels, _REFUSED_PX)) + _notes([str(error)])
        whole = _start_figure(frame)
        try:
            with loaded.turn:
                notes = loaded.pipe.warnings(parse_timeline(text), loaded.pipe.defaults(), frame)
            return whole + _notes(on_sides + notes)
        except UserError as error:  # of the sentences, which may not be there yet
            return whole + _notes([*on_sides, str(error)])

    def _chosen(self, start: StartFrame, text: str, model: str, fit: str) -> tuple[StartFrame, str]:
        return start, self.start_view(start, text, self._shelf.get(model), fit_from(fit))

    @in_a_sentence
    def choose_fit(self, start: StartFrame | None, text: str, model: str, fit: str) -> Any:
        """Shows the starting frame as another fit makes it."""
        import gradio as gr

        return gr.skip() if start is None else self.start_view(start, text, self._shelf.get(model), fit_from(fit))

    @in_a_sentence
    def choose_example(self, name: str, text: str, model: str, fit: str) -> tuple[StartFrame, str]:
        """Starts from an image that comes with the project."""
        return self._chosen(start_frame.from_example(name), text, model, fit)

    @in_a_sentence
    def open_picture(self, path: str, text: str, model: str, fit: str) -> tuple[StartFrame, str]:
        """Starts from a picture of the visitor."""
        return self._chosen(start_frame.from_file(uploaded(path), self._limits.max_megabytes), text, model, fit)

    @in_a_sentence
    def use_canvas(self, canvas: Any, text: str, model: str, fit: str) -> tuple[StartFrame, str]:
        """Starts from what was drawn."""
        return self._chosen(start_frame.from_canvas(canvas), text, model, fit)

    @in_a_sentence
    def follow_canvas(self, canvas: Any, text: str, model: str, fit: str) -> tuple[Any, Any]:
        """Starts from what is drawn, stroke by stroke; an empty canvas, as when it is unfolded, changes nothing."""
        import gradio as gr

        if not start_frame.has_strokes(canvas):
            return gr.skip(), gr.skip()
        return self._chosen(start_frame.from_canvas(canvas), text, model, fit)

    @in_a_sentence
    def add_shape(
        self, canvas: Any, shape: str, colour: str, size: str, x: float, y: float, text: str, model: str, fit: str
    ) -> tuple[Any, StartFrame, str]:
        """Puts a shape on the canvas, and starts from it."""
        pixels = start_frame.from_canvas(canvas).pixels
        pixels = start_frame.with_shape(pixels, shape, colour, size, x, y)
        return pixels, *self._chosen(StartFrame(pixels, "drawing.png"), text, model, fit)

    def timeline(self, text: str) -> str:
        """From which frame on each sentence holds; or why it cannot be used."""
        try:
            turns = parse_timeline(text).turns
        except UserError as error:
            return _notes([str(error)])
        return f"<ol>{''.join(f'<li>from frame {frame}: {html.escape(one)}</li>' for frame, one in turns)}</ol>"

    def models(self) -> Any:
        """The models to choose from now: runs come and go while the studio is open. What is chosen meanwhile is left alone."""
        import gradio as gr

        return gr.Dropdown(choices=self._shelf.offered())

    @in_a_sentence
    def load_model(self, start: StartFrame | None, text: str, model: str, fit: str) -> tuple[Any, ...]:
        """Loads a model, takes its settings over, and shows the starting frame as this model gets it."""
        import gradio as gr

        loaded = self._shelf.get(model, is_anew=True)
        params = loaded.pipe.defaults()
        about = f"{loaded.name} is loaded: sha256 {loaded.pipe.model.digest[:12]}, {loaded.pipe.size_px} px."
        view = gr.skip() if start is None else self.start_view(start, text, loaded, fit_from(fit))
        return view, _status(about, loaded.notes), *_values(params)

    @in_a_sentence
    def open_recipe(self, path: str, model: str) -> tuple[Any, ...]:
        """Fills the page with what a video was sampled with."""
        with by_its_name(path):
            record = read_record(uploaded(path))
        # A recipe may be a stranger's: it makes this machine download nothing.
        loaded = self._shelf.get(record.checkpoint if self._shelf.is_here(record.checkpoint) else model)
        start = StartFrame(record.frame.pixels, record.frame.file, record.frame.sha256)
        text = "\n".join(f"{frame}: {sentence}" for frame, sentence in record.text)
        self._limits.check(1, record.num_frames, record.num_steps)
        if record.model_sha256 != loaded.pipe.model.digest:
            about = (
                f"The recipe is of another model ({record.checkpoint}, sha256 {record.model_sha256[:12]}) than {loaded.name};"
                " choose that model, or get another video."
            )
        elif record.last_frame:
            about = (
                "The recipe ends in a given frame, and the studio's videos do not; for the same video, run"
                " cdcd-video sample --from with this file."
            )
        else:
            about = "The recipe is open; as long as nothing is changed, Sample gives the same video."
        fit = record.fit or AS_TRAINED
        return (
            *self._chosen(start, text, loaded.name, fit),
            *(text, "", 1, record.negative_prompt or "", loaded.name, fit, self.timeline(text), _status(about)),
            *_values(record),
        )

    def sample(
        self,
        start: StartFrame,
        text: str,
        other: str,
        num_seeds: float | None,
        negative: str,
        model: str,
        fit: str,
        *settings: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """Samples the videos of a request; what is on the page is renewed after every frame.

        Yields:
          The session, the videos, their latent paths, the status, and the choices of video and frame.
        """
        import gradio as gr

        try:
            sentences = [text, other] if (other or "").strip() else [text]
            given = settings_from(list(settings))
            loaded = self._shelf.get(model)
            count = plain_number(num_seeds, is_whole=True)
            request = (start, sentences, given, count, negative or "", self._limits, fit_from(fit))
            session = SamplingSession.of(loaded, *request)
        except UserError as error:
            raise on_page(error) from None
        total, begun, labels = session.params[0].num_frames, time.monotonic(), session.labels
        choices = gr.Dropdown(choices=labels, value=labels[0])
        same = gr.skip()
        try:
            for number, frames in enumerate(session.run()):
                about = f"Frame {number + 1} of {total}, {time.monotonic() - begun:.1f} s."
                cards = cards_while_sampled(frames, labels, number, total)
                at = gr.Slider(value=number, maximum=max(1, total - 1))
                yield session, cards, same, _status(about, session.notes), choices, at
        except UserError as error:
            if not session.num_frames:
                raise on_page(error) from None
            gr.Warning(html.escape(str(error)), duration=None)
        yield session, *self._result(session, f"{time.monotonic() - begun:.1f} s")

    @in_a_sentence
    def after_cancel(self, session: SamplingSession | None) -> tuple[Any, ...]:
        """What was sampled before the visitor stopped it."""
        import gradio as gr

        if session is None:
            return (gr.skip(),) * 5
        return self._result(session, "cancelled")

    def _result(self, session: SamplingSession, how: str) -> tuple[Any, ...]:
        """The videos so far, with their latent paths."""
        import gradio as gr

        videos, labels = session.videos, session.labels
        grid = session.loaded.pipe.model.codec.grid_of(*videos[0].frames.shape[1:3])
        plot = path_plot(session.loaded.pipe, session.loaded.paths, session.latents, labels, grid)
        about = f"{len(videos[0])} of {session.params[0].num_frames} frames, {how}."
        last = len(videos[0]) - 1
        at = gr.Slider(value=last, maximum=max(1, last))  # a slider from 0 to 0 is refused
        choices = gr.Dropdown(choices=labels, value=labels[0])
        return finished_cards(videos, labels), plot, _status(about, session.notes), choices, at

    @in_a_sentence
    def go_on(
        self, session: SamplingSession | None, place: int | None, frame: float | None, text: str, model: str, fit: str
    ) -> tuple[StartFrame, str, str]:
        """Starts from a frame of a sampled video, and says so where the visitor looks."""
        place = _place(session, place)
        video = _sampled(session).videos[place]
        if frame is None or not 0 <= frame < len(video):
            raise UserError(f"the video has no frame {frame}; choose one from 0 to {len(video) - 1}")
        about = f"Frame {frame:g} of video {place + 1} is the starting frame now; Sample continues from it."
        start = StartFrame(np.ascontiguousarray(video[int(frame)]))
        return *self._chosen(start, text, model, fit), _status(about)

    @in_a_sentence
    def write(self, session: SamplingSession | None, place: int | None) -> list[Any]:
        """Writes the files of a sampled video; each gets a button that says its name and size."""
        import gradio as gr

        files = {path.suffix: path for path in write_files(_sampled(session), _place(session, place))}
        return [
            gr.DownloadButton(f"{path.name}, {-(-path.stat().st_size // 1000)} kB", value=str(path), visible=True)
            if (path := files.get(suffix))
            else gr.DownloadButton(value=None, visible=False)
            for suffix in WRITTEN
        ]

    def no_files(self) -> list[Any]:
        """Takes the files of earlier videos away, which would be taken for those of the new ones."""
        import gradio as gr

        return [gr.DownloadButton(value=None, visible=False) for _ in WRITTEN]


def _start_figure(frame: np.ndarray) -> str:
    return f"<figure>{picture(frame, 'the starting frame', 'start')}<figcaption>Starting frame</figcaption></figure>"


def _sampled(session: SamplingSession | None) -> SamplingSession:
    if session is None:
        raise UserError("no video is here, or it was deleted after its time; press Sample first")
    return session


def _place(session: SamplingSession | None, place: int | None) -> int:
    most = len(_sampled(session).params)
    if place is None or not 0 <= place < most:
        raise UserError("no video is chosen; choose one in the field Video")
    return int(place)


def _values(held: Any) -> list[Any]:
    """Values of the settings' fields, of `SamplingParams` or a record; a seed is text, see `setting_field`."""
    return [str(getattr(held, name)) if name == "seed" else getattr(held, name) for name in (*MAIN, *FURTHER)]


def _notes(sentences: list[str]) -> str:
    return "".join(f'<p class="note">{html.escape(sentence)}.</p>' for sentence in sentences)


def _status(about: str, notes: list[str] | tuple[str, ...] = ()) -> str:
    return f'<p role="status">{html.escape(about)}</p>{_notes(list(notes))}'
