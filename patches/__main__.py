"""`python -m patches COMMAND ...`: the status of upstream CDCD, symbol by symbol; see patches/README.md."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cdcd_video.errors import UserError, exit_code
from patches import audit, catalogue, pin, sidebyside
from patches.arguments import Parser
from patches.upstream import Checkout


def parser() -> argparse.ArgumentParser:
    """All commands but `parity`, which has options of its own."""
    root = Parser(prog="python -m patches", description=__doc__.split(": ", 1)[1])
    commands = root.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)

    options = commands.add_parser("map", help="the status of every upstream symbol, with totals; needs no checkout")
    options.add_argument("--status", choices=catalogue.STATUSES, help="only these")
    options.add_argument("--json", action="store_true", help="for machines: symbols, totals, new, findings, glossary")
    options.set_defaults(run=show_map)

    options = commands.add_parser("diff", help="upstream's code beside ours")
    options.add_argument("symbol", metavar="SYMBOL", help="q_posterior, Class.method, or path::name in full")
    options.add_argument("--upstream", type=Path, required=True, metavar="DIR", help="your checkout of L-YeZhu/CDCD")
    options.add_argument("--html", type=Path, metavar="FILE", help="write a page, outside this repository")
    options.set_defaults(run=show_diff)

    help_parity = "compares numbers of your checkout's functions with ours; see its --help"
    commands.add_parser("parity", help=help_parity, add_help=False)

    options = commands.add_parser(
        "audit", help="checks that this project has no text of upstream; exit code 1 if it has"
    )
    options.set_defaults(run=show_audit)

    options = commands.add_parser("pin", help="rewrite hashes and fingerprints from a checkout")
    options.add_argument("--upstream", type=Path, required=True, metavar="DIR", help="L-YeZhu/CDCD at the map's commit")
    options.set_defaults(run=write_pins)
    return root


def show_map(options: argparse.Namespace) -> int:
    """Prints the table."""
    found = catalogue.load()
    rows = [row for row in found.rows if options.status in (None, row[1].status)]
    if options.json:
        print(json.dumps(_as_json(found, rows), indent=1))
        return 0
    width = shutil.get_terminal_size((160, 24)).columns
    per_file = {}
    for symbol, verdict in rows:
        per_file.setdefault(symbol.path, []).append((symbol, verdict))
    for path, held in per_file.items():
        print(f"{path}  {len(held)}")
        for symbol, verdict in held:
            said = ", ".join(verdict.ours) or verdict.why
            line = f"  {verdict.status:<9}{symbol.name:<50} {said}"
            print(line if len(line) <= width else f"{line[: max(width - 3, 60)]}...")
    totals = found.totals()
    print(f"\n{'status':<10}{'symbols':>8}")
    for status, count in totals.items():
        print(f"{status:<10}{count:>8}")
    print(f"{'total':<10}{sum(totals.values()):>8}   of {found.upstream['repo']} at {found.upstream['commit'][:7]}")
    print(f"{len(found.new)} things are ours alone, {len(found.findings)} findings are in patches/README.md.")
    return 0


def show_diff(options: argparse.Namespace) -> int:
    """Prints both sides, or writes the page."""
    found = catalogue.load()
    symbol, verdict = found.find(options.symbol)
    definition, theirs, our_panels = sidebyside.panels(Checkout(options.upstream), symbol, verdict)
    if warning := found.drifted(symbol, definition.sha256):
        sys.stderr.write(f"warning: {warning}\n")
    head = sidebyside.verdict_lines(symbol, verdict)
    if options.html:
        print(f"wrote {sidebyside.write_page(options.html, sidebyside.page(head, theirs, our_panels))}")
    else:
        print(sidebyside.terminal(head, theirs, our_panels, shutil.get_terminal_size((160, 24)).columns))
    return 0


def show_audit(options: argparse.Namespace) -> int:
    """Looks for upstream's passages and names where they are."""
    if not (audit.ROOT / "pyproject.toml").is_file():
        raise UserError("audit looks through a checkout of this project; run it in one")
    known = audit.read_fingerprints()
    files = audit.project_files()
    found = audit.hits(files, known)
    for hit in found:
        print(f"{hit.path}:{hit.line}: three lines from here are upstream's")
    print(f"{len(found)} passages of upstream in {len(files)} files, by {len(known)} fingerprints")
    return 1 if found else 0


def write_pins(options: argparse.Namespace) -> int:
    """Rewrites what is derived, and says what changed."""
    for name, has_changed in pin.pin(Checkout(options.upstream)).items():
        print(f"{name}: {'written' if has_changed else 'as it was'}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; without one, prints the help."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["parity"]:
        # It alone needs torch, and is on its own for that reason.
        from patches.parity import main as parity

        return parity(given[1:])
    options = parser().parse_args(given)
    if not hasattr(options, "run"):
        parser().print_help()
        return 0
    return options.run(options)


def _as_json(found: catalogue.Catalogue, rows: Sequence[tuple[catalogue.Symbol, catalogue.Verdict]]) -> dict:
    return {
        "upstream": found.upstream,
        "totals": found.totals(),
        "symbols": [
            {
                "symbol": symbol.full,
                "status": verdict.status,
                "ours": verdict.ours,
                "why": verdict.why,
                "cites": verdict.cites,
                "check": verdict.check,
                "tolerance": verdict.tolerance,
                "digest": symbol.digest,
            }
            for symbol, verdict in rows
        ],
        "new": found.new,
        "findings": found.findings,
        "glossary": found.glossary,
    }


if __name__ == "__main__":
    sys.exit(exit_code(main))
