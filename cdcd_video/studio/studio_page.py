"""The page: its fields, and which event calls what. Gradio is imported by the functions, since it is an extra."""

from pathlib import Path
from typing import Any

from cdcd_video.config.shipped_files import shipped_names
from cdcd_video.studio import start_frame
from cdcd_video.studio.downloads import WRITTEN
from cdcd_video.studio.model_shelf import ModelShelf
from cdcd_video.studio.page_events import PageEvents
from cdcd_video.studio.setting_fields import FURTHER, MAIN, fit_field, setting_field
from cdcd_video.studio.studio_limits import Limits

STYLE = Path(__file__).with_name("studio.css")
DROPPING = Path(__file__).with_name("dropping.js")
EXAMPLE, SENTENCE = "red-circle", "the red circle moves right"
"""What the page begins with."""
_NARROW_PX = 700
"""Widest page that has one column, as in `studio.css`."""
_TITLE = "Studio: image to video"
_OPENING = (
    "Either can also be dropped anywhere on this page. A recipe is the .json beside a video, or a video that was sampled"
    " with this project."
)
_FOLDED_WHERE_NARROW = f"() => ({{__type__: 'update', open: innerWidth > {_NARROW_PX}}})"
_TO_THE_VIDEO_WHERE_NARROW = (
    f"() => {{ if (innerWidth <= {_NARROW_PX}) document.querySelector('[role=status]').scrollIntoView() }}"
)
_HELP = 'One sentence a line. "8: the red circle moves up" holds from frame 8 on.'
_COLOURS = dict(
    body_text_color_subdued="*neutral_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
)
"""Where the theme's own text has a contrast below 4.5."""


def build_page(shelf: ModelShelf, limits: Limits) -> Any:
    """The page as Gradio blocks, with its queue.

    Args:
      shelf: its first model is loaded here.
      limits: of a visitor.

    Raises:
      UserError: the first model cannot be loaded.
    """
    import gradio as gr

    page = PageEvents(shelf, limits)
    first = shelf.get(shelf.names[0])
    keep_s = 60 * limits.keep_minutes
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(60, keep_s)) as blocks:
        gr.Markdown(
            f"# {_TITLE}\nA starting frame and a sentence give a video. What you open is deleted after"
            f" {limits.keep_minutes} minutes and goes nowhere else."
        )
        start = gr.State(
            None, time_to_live=keep_s
        )  # what has expired is its first value again, and must not be a picture
        session = gr.State(None, time_to_live=keep_s)
        # In the order of use, of the keyboard and of a phone; on a wide screen the settings are below the first column.
        with gr.Row(elem_classes="studio-parts"):
            with gr.Column(min_width=0):
                with gr.Row():
                    with gr.Column(min_width=140):
                        start_view = gr.HTML("", elem_classes="studio", label="Starting frame")
                    with gr.Column(min_width=150):
                        example = gr.Dropdown(shipped_names("examples"), value=EXAMPLE, label="Example")
                        opened = gr.UploadButton("Open a picture", file_types=["image"])
                        recipe = gr.UploadButton("Open a recipe", file_types=[".json", ".mp4", ".gif", ".webp", ".png"])
                        gr.Markdown(_OPENING, elem_classes="studio-hint")
                        fit = fit_field()
                with gr.Accordion("Draw a starting frame", open=False):
                    canvas = gr.ImageEditor(
                        label="Canvas",
                        type="numpy",
                        image_mode="RGB",
                        format="png",
                        sources=(),
                        transforms=(),
                        layers=False,
                        canvas_size=(start_frame.CANVAS_PX,) * 2,
                        fixed_canvas=True,
                        buttons=[],
                        brush=gr.Brush(default_size=24, colors=list(start_frame.COLOUR_NAMES), color_mode="defaults"),
                    )
                    with gr.Row():
                        use_canvas = gr.Button("Use the drawing", min_width=120)
                        clear = gr.Button("Clear", min_width=120)
                    with gr.Accordion("Shapes", open=False):
                        with gr.Row():
                            shape = gr.Dropdown(list(start_frame.SHAPES), value="circle", label="Shape", min_width=100)
                            colour = gr.Dropdown(list(start_frame.COLOURS), value="red", label="Colour", min_width=100)
                            size = gr.Dropdown(
                                list(start_frame.SIZE_NAMES), value="medium", label="Size", min_width=100
                            )
                        with gr.Row():
                            across = gr.Slider(0, 1, value=0.5, step=0.05, label="From the left", min_width=140)
                            down = gr.Slider(0, 1, value=0.5, step=0.05, label="From the top", min_width=140)
                        add_shape = gr.Button("Add the shape")
                text = gr.Textbox(SENTENCE, lines=2, label="Sentences", info=_HELP)
                timeline = gr.HTML(page.timeline(SENTENCE), elem_classes="studio")
                with gr.Row():
                    sample = gr.Button("Sample", variant="primary", min_width=120)
                    cancel = gr.Button("Cancel", variant="stop", min_width=120)
            with gr.Column(min_width=0):
                status = gr.HTML('<p role="status"></p>', elem_classes="studio")
                view = gr.HTML("", elem_classes="studio", label="Videos")
                with gr.Row():
                    chosen = gr.Dropdown([], label="Video", type="index", min_width=140, elem_classes="studio-video")
                    frame = gr.Slider(0, limits.max_frames - 1, value=0, step=1, label="Frame", min_width=140)
                with gr.Row():
                    go_on = gr.Button("Continue from this frame", min_width=140)
                    write = gr.Button("Write files of this video", min_width=140)
                with gr.Row():
                    files = [gr.DownloadButton(visible=False, size="md", min_width=140) for _ in WRITTEN]
                plot = gr.HTML("", elem_classes="studio studio-paths", label="Latent paths")
            with gr.Column(min_width=0):
                params = first.pipe.defaults()
                with gr.Accordion("Settings") as settings_part:
                    with gr.Row():
                        fields = [setting_field(name, params, limits) for name in MAIN]
                    num_seeds = gr.Slider(1, limits.max_videos, value=1, step=1, label="Seeds side by side")
                    other = gr.Textbox("", lines=1, label="Other sentences, for the same seeds beside these (optional)")
                with gr.Accordion("More settings", open=False):
                    negative = gr.Textbox(
                        "",
                        label="Negative sentence",
                        info="what guidance leads away from; needs a guidance other than 1",
                    )
                    fields += [setting_field(name, params, limits) for name in FURTHER]
                with gr.Accordion("Model", open=False):
                    about = "Choose, or type a model or run folder, or owner/name on the Hub" if shelf.is_open else None
                    model = gr.Dropdown(
                        shelf.offered(), value=first.name, allow_custom_value=shelf.is_open, label="Model", info=about
                    )
                    load = gr.Button("Load the model, or the newest weights of a run")

        start_fields = [start, start_view]
        beside = [text, model, fit]
        # By default, what is asked for while the same is still at work is dropped without a word.
        last: dict[str, Any] = dict(trigger_mode="always_last")
        quiet: dict[str, Any] = dict(last, show_progress="hidden")
        example.input(page.choose_example, [example, *beside], start_fields, api_name="example", **last)
        opened.upload(page.open_picture, [opened, *beside], start_fields, api_name="open_picture", **last)
        fit.input(page.choose_fit, [start, *beside], start_view, api_name="fit", **quiet)
        # Who has drawn and presses Sample means the drawing, with the last stroke.
        canvas.input(page.follow_canvas, [canvas, *beside], start_fields, api_name=False, **quiet)
        use_canvas.click(page.use_canvas, [canvas, *beside], start_fields, api_name="use_canvas", **last)
        stamp = [canvas, shape, colour, size, across, down, *beside]
        add_shape.click(page.add_shape, stamp, [canvas, *start_fields], api_name="add_shape", **quiet)
        clear.click(start_frame.empty_canvas, None, canvas, api_name="clear", show_progress="hidden")
        blocks.load(None, None, None, js=DROPPING.read_text(encoding="utf-8"), api_name=False)
        blocks.load(None, None, settings_part, js=_FOLDED_WHERE_NARROW, api_name=False)
        # The canvas' own button takes the ground away, too, and nothing can be drawn on what is left.
        canvas.clear(start_frame.empty_canvas, None, canvas, api_name=False, show_progress="hidden")
        blocks.load(start_frame.empty_canvas, None, canvas, api_name=False)
        blocks.load(page.choose_example, [example, *beside], start_fields, api_name=False)
        text.change(page.timeline, [text], timeline, api_name=False, show_progress="hidden")
        renewed = [start_view, status, *fields]
        load.click(page.load_model, [start, *beside], renewed, api_name="load_model", **last)
        if shelf.is_open:
            blocks.load(page.models, None, model, api_name=False, show_progress="hidden")
        settings = [start, text, other, num_seeds, negative, model, fit, *fields]
        loaded = [*start_fields, text, other, num_seeds, negative, model, fit, timeline, status, *fields]
        recipe.upload(page.open_recipe, [recipe, model], loaded, api_name="open_recipe", **last)
        results = [session, view, plot, status, chosen, frame]
        sample.click(page.no_files, None, files, api_name=False, show_progress="hidden")
        sample.click(None, None, None, js=_TO_THE_VIDEO_WHERE_NARROW, api_name=False)
        running = sample.click(
            page.sample, settings, results, api_name="sample", concurrency_limit=limits.at_once, show_progress="hidden"
        )
        stopped = cancel.click(None, None, None, cancels=[running], api_name=False)
        stopped.then(page.after_cancel, [session], results[1:], api_name="after_cancel")
        go_on.click(page.go_on, [session, chosen, frame, *beside], [*start_fields, status], api_name="go_on", **last)
        write.click(page.write, [session, chosen], files, api_name="write", **last)
    return blocks.queue(max_size=limits.max_waiting, default_concurrency_limit=limits.at_once)


def launch_options(limits: Limits) -> dict[str, Any]:
    """Options for `launch` or `mount_gradio_app`: fonts of the visitor's own machine, and nothing that is kept or counted."""
    import gradio as gr

    fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return dict(
        theme=gr.themes.Default(**fonts).set(**_COLOURS),
        css_paths=[STYLE],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=f"{limits.max_megabytes}mb",
    )
