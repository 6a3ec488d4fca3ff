"""Builds the article: computes its figures with the shipped model and writes one HTML page that needs no other file."""

import tempfile
from pathlib import Path

from cdcd_video.config import config_file
from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.setting_words import add_setting_flag, with_flags
from cdcd_video.errors import UserError
from cdcd_video.tools.dev.article.article_plan import ArticlePlan

ROOT = Path(__file__).resolve().parents[4]


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.article", description=__doc__)
    add = parser.add_argument
    add(
        "--plan",
        type=Path,
        default=ROOT / "docs/article/article.yaml",
        metavar="FILE",
        help="default: docs/article/article.yaml",
    )
    add_setting_flag(parser, "changes the plan, such as latent_path.num_frames=8")
    add(
        "--out",
        type=Path,
        default=Path("out/article/index.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    args = parser.parse_args(with_flags(None))
    if args.out.suffix != ".html":
        raise UserError(f"--out must be an .html file, not {str(args.out)!r}")
    build(config_file.load(args.plan, ArticlePlan, args.set), args.plan.parent, args.out)
    print(args.out)
    return 0


def build(plan: ArticlePlan, folder: Path, out: Path) -> None:
    """Computes the figures and writes the page; the same plan, text, model and libraries give the same bytes.

    Args:
      plan: what the article consists of.
      folder: has the sections and the result files.
      out: the page.

    Raises:
      UserError: something that the plan or the text names is missing, or the page cannot be written.
    """
    from tqdm import tqdm

    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.tools.dev.article import article_page, latent_path, side_by_side
    from cdcd_video.video import refused_by_disk, whole_file

    references = ROOT / "docs/references.md"
    article_page.check_text(plan, folder, references, ("latent-path", "side-by-side"))
    with refused_by_disk(out):  # before the figures, which take minutes
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent, prefix=f".{out.name}.").close()
    pipe = ImageToVideo.from_pretrained(plan.checkpoint, "cpu")
    total = latent_path.frames_of_work(plan.latent_path) + side_by_side.frames_of_work(plan.side_by_side)
    with tqdm(total=total, desc="figures", unit="frame") as bar:
        computed = {
            "latent-path": latent_path.latent_path(pipe, plan.latent_path, plan.seed, bar.update),
            "side-by-side": side_by_side.side_by_side(pipe, plan.side_by_side, plan.seed, bar.update),
        }
    facts = {"model": pipe.model.config.name, "model_sha256": pipe.model.digest, "seed": str(plan.seed)}
    page = article_page.article_page(plan, folder, references, computed, facts)
    with whole_file(out) as part:
        part.write_text(page, encoding="utf-8")
