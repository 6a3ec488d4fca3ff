"""Where jaxtyping's checks of every call are left out: in trainings and evaluations of whole models, a third of whose time they
are. Shapes are checked by the tests of the parts, and by those of the whole line in `test_line`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping

WHOLE_LINES = {
    *("test_ablate", "test_bench", "test_bench_data", "test_build", "test_cache", "test_calls", "test_drawing_speed"),
    *("test_encode", "test_evaluate", "test_evaluate_videos", "test_explain", "test_foreign", "test_guidance"),
    *("test_i2v_configs", "test_inference", "test_kill_resume", "test_latents", "test_networks", "test_ruler"),
    *("test_report_browser", "test_scaling", "test_step_encoder", "test_tools", "test_watch"),
}
"""Modules in which nothing else is done."""


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside, shapes are not checked."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
