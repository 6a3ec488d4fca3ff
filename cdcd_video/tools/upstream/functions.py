"""Runs upstream CDCD's own functions from a user's own checkout, to compare with ours; nothing of upstream is kept here.

Upstream cannot be imported without its whole world (mpi4py, Jukebox, CUDA). So a file of the checkout is parsed, the
functions and classes that are asked for are taken out of its syntax tree together with what they use of the same file,
and these alone are compiled, in a namespace of their own. `patches` and `tools.bench` stand on this file:

    upstream = Upstream(Path("CDCD"))
    upstream.warning(DIFFUSION)                                  # "" at the commit we know, else a sentence
    schedule = upstream.symbols(DIFFUSION, ["alpha_schedule"])["alpha_schedule"]

**This is the one file that executes text which is not part of the project**, and it is the user's own: it runs only the
named symbols of the folder that the user names on the command line. Name a checkout that you trust.
"""

import ast
import contextlib
import hashlib
import importlib
import subprocess
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from cdcd_video.errors import UserError

COMMIT = "667f9c0156e68d6e884a1ad5201ae1928098b02d"
"""The commit of L-YeZhu/CDCD that everything here was measured against."""
DIFFUSION = "synthesis/modeling/transformers/diffusion_transformer.py"
"""The loss of the image models, with contrast."""
DIFFUSION_AMP = "synthesis/modeling/transformers/diffusion_transformer_amp.py"
"""An older loss without contrast: uniform mass over K + 1 classes, and the x_0 term's weight grows with t."""
TREES = {
    DIFFUSION: "6f9453ac79c090cf0b8a5c6494e6a886bc3c23986ce9d3829c25f239c46f6d3b",
    DIFFUSION_AMP: "b16669c11b80de6a07b758064a1688480adb9af269b543987efe0ec233be752b",
}
"""`tree_hash` of whole files at `COMMIT`, for checkouts that are not git repositories."""
LIBRARIES = frozenset({"copy", "einops", "functools", "inspect", "math", "numpy", "time", "torch"})
"""What the taken symbols may import for themselves. Every other import of the file stays undone."""

Node = ast.FunctionDef | ast.ClassDef


class Upstream:
    """A checkout of upstream CDCD.

    Raises:
      UserError: the folder is not there, or holds no CDCD.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder).expanduser()
        if not (self.folder / "synthesis").is_dir():
            what = "holds no CDCD" if self.folder.is_dir() else "is not a folder"
            raise UserError(
                f"{folder} {what}; clone https://github.com/L-YeZhu/CDCD at {COMMIT[:7]} and name its folder."
            )
        self._trees: dict[str, ast.Module] = {}

    def tree(self, file: str) -> ast.Module:
        """The syntax tree of a file, named by its path in the checkout.

        Raises:
          UserError: the file is not there or is not Python.
        """
        if file not in self._trees:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # its strings hold escapes that newer versions of Python warn of
                    self._trees[file] = ast.parse((self.folder / file).read_text(encoding="utf-8"), file)
            except OSError:
                raise UserError(f"{self.folder} has no file {file}; is it CDCD at {COMMIT[:7]}?") from None
            except (SyntaxError, ValueError):
                raise UserError(f"{self.folder / file} is not Python; fetch the file again.") from None
        return self._trees[file]

    def find(self, file: str, name: str) -> Node:
        """The definition of a function, a class or a `Class.method`.

        Raises:
          UserError: the file has no such symbol.
        """
        body: Sequence[ast.stmt] = self.tree(file).body
        found = None
        for part in name.split("."):
            found = next((node for node in body if isinstance(node, Node) and node.name == part), None)
            if found is None:
                raise UserError(f"{self.folder / file} has no {name}; is it CDCD at {COMMIT[:7]}?")
            body = found.body
        return found

    def symbols(self, file: str, names: Iterable[str], *, seed: int = 0, **given: Any) -> dict[str, Any]:
        """Compiles some symbols of a file, and what they use of the same file, in a namespace of their own.

        Args:
          file: path in the checkout.
          names: functions, classes and methods (`Class.method`, which comes out as a plain function; take the whole
            class where it calls `super()`).
          seed: of the `random` that these symbols see. It is theirs alone, and equal to Python's after `random.seed`.
          given: names to use in the place of the file's own, or of what it imports.

        Returns:
          The namespace: every taken symbol under the last part of its name. It is the symbols' own dictionary of
          globals, so what is put into it is what they see.

        Raises:
          UserError: the file or a symbol is not there.
        """
        top = {name: node for node in self.tree(file).body for name in _bound_by(node)}
        taken, waiting = [], [self.find(file, name) for name in names]
        while waiting:
            node = waiting.pop()
            taken.append(node)
            used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} - given.keys()
            waiting += [top[name] for name in sorted(used & top.keys()) if top[name] not in [*taken, *waiting]]
        namespace = {"__name__": "upstream", **self._imports(file, taken, seed), **given}
        body = sorted(taken, key=lambda node: node.lineno)
        code = compile(ast.Module(body=body, type_ignores=[]), str(self.folder / file), "exec", dont_inherit=True)
        exec(code, namespace)  # noqa: S102 (the user's own file, see the head of this one)
        return namespace

    def commit(self) -> str | None:
        """The commit that is checked out; None where the folder is no git repository, or git is not at hand."""
        if not (self.folder / ".git").exists():
            return None
        command = ["git", "-C", str(self.folder), "rev-parse", "HEAD"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    def warning(self, *files: str) -> str:
        """One sentence if the checkout is another one than we know; empty if it is the same, as far as can be seen.

        Args:
          files: those of `TREES` to look at; this finds edited files, and serves where there is no commit to ask for.
        """
        commit = self.commit()
        if commit not in (None, COMMIT):
            return f"{self.folder} is CDCD at {commit[:7]}, not at {COMMIT[:7]}: what follows is about another code."
        for file in files:
            if tree_hash(self.tree(file)) != TREES[file]:
                return f"{file} in {self.folder} is not CDCD's at {COMMIT[:7]}: what follows is about another code."
        return ""

    def _imports(self, file: str, nodes: Iterable[ast.AST], seed: int) -> dict[str, Any]:
        """The names of libraries that `nodes` use, as the file imports them."""
        used = {inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        names: dict[str, Any] = {}
        for node in ast.walk(self.tree(file)):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for alias in node.names:
                module = node.module if isinstance(node, ast.ImportFrom) else alias.name
                name = alias.asname or alias.name.split(".")[0]
                if name not in used:
                    continue
                if module == "random":
                    names[name] = Random(seed)
                elif module.split(".")[0] in LIBRARIES:
                    # What a library no longer has stays undone as well; who needs it gives it.
                    with contextlib.suppress(ImportError, AttributeError):
                        names[name] = _imported(node, alias, module)
        return names


def tree_hash(node: ast.AST) -> str:
    """SHA-256 of a syntax tree without its places, comments and layout; the same in every version of Python.

    (`ast.dump` is not: newer versions add fields and leave empty ones out. Here empty fields never count.)
    """

    def plain(value: Any) -> Any:
        if isinstance(value, ast.AST):
            fields = ((name, plain(inner)) for name, inner in ast.iter_fields(value) if inner not in (None, []))
            return type(value).__name__, *(field for field in fields if field[0] not in ("kind", "type_comment"))
        return [plain(inner) for inner in value] if isinstance(value, list) else repr(value)

    return hashlib.sha256(repr(plain(node)).encode()).hexdigest()


def _bound_by(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a file binds, imports apart."""
    if isinstance(node, Node):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _imported(node: ast.Import | ast.ImportFrom, alias: ast.alias, module: str) -> Any:
    if isinstance(node, ast.Import):
        found = importlib.import_module(module)
        return found if alias.asname else importlib.import_module(module.split(".")[0])
    try:
        return getattr(importlib.import_module(module), alias.name)
    except AttributeError:
        return importlib.import_module(f"{module}.{alias.name}")
