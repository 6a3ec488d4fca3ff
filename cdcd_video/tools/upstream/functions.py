"""Runs upstream CDCD's own functions from a user's own checkout, to compare with ours; nothing of upstream is kept here.

Upstream cannot be imported without its whole world (mpi4py, Jukebox, CUDA). So a file of the checkout is parsed, the
functions and classes that are asked for are taken out of its syntax tree together with what they use of the same file,
and these alone are compiled, in a namespace of their own. `patches` and `tools.bench` stand on this file:

    upstream = Upstream(Path("CDCD"))
    upstream.warning(DIFFUSION)                                  # "" at the commit we know, else a sentence
    schedule = upstream.symbols(DIFFUSION, ["alpha_schedule"])["alpha_schedule"]
    loss = UpstreamLoss(upstream, num_codes=50, num_steps=20, num_tokens=64, intra_weight=5e-5, dtype=torch.float64)
    per_sample = loss.train_loss(logits, x0, t=t, share=share, x_t=x_t, intra=negatives)

**This is the one file that executes text which is not part of the project**, and it is the user's own: it runs only the
named symbols of the folder that the user names on the command line. Name a checkout that you trust.
"""

import ast
import contextlib
import hashlib
import importlib
import subprocess
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cdcd_video.engine.runtime import seed_for
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
Function = Callable[..., Any]


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


class UpstreamLoss:
    """Upstream's diffusion, its own class with its own constructor, with given logits in the place of a transformer.

    All tensors have upstream's layout: log-probabilities are (B, K + 1, N), times t are 0..T-1 with 0 the least noisy,
    codes are 0..K-1 and [MASK] is K. Only the logits are (B, N, K), as a head computes them; upstream sees the view
    (B, K, N) of them, as its own network would hand it.

    Attributes:
      model: upstream's object, for whatever is not wrapped here (`Lt_history`, `p_sample`, ...).
      symbols: the namespace it lives in.
      calls: how often its own random draws were seeded so far.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        num_codes: int,
        num_steps: int,
        num_tokens: int,
        file: str = DIFFUSION,
        auxiliary_weight: float = 5e-4,
        adaptive: bool = True,
        token_weight: tuple[float, float] = (1.0, 1.0),
        intra_weight: float = 0.0,
        inter_weight: float = 0.0,
        intra_mode: str = "step",
        inter_mode: str = "sample",
        num_intra: int = 10,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        """Builds it.

        Args:
          upstream: the checkout.
          num_codes: K.
          num_steps: T.
          num_tokens: N.
          file: which of upstream's losses; `DIFFUSION_AMP` knows no contrast.
          auxiliary_weight: of the x_0 term; upstream's configs have 5e-4.
          adaptive: upstream's `adaptive_auxiliary_loss`: weights change with t.
          token_weight: upstream's `mask_weight`, of masked and of other tokens.
          intra_weight: of the contrast with permuted samples; 0 leaves it out.
          inter_weight: of the contrast with ten other samples; 0 leaves it out.
          intra_mode, inter_mode: "step" or "sample".
          num_intra: permuted samples.
          dtype: torch.float64 runs upstream in double precision throughout, with its `.float()` made harmless.
          device: where the model lies.
          seed: of its chunk permutations and of its own draws of t and x_t.
        """
        self._transformer = _GivenLogits(num_codes + 1)
        self._dtype, self._device, self._seed = dtype, torch.device(device), seed
        self.calls = 0
        given = {"instantiate_from_config": lambda config: self._transformer, "predict_condition": False}
        self.symbols = upstream.symbols(file, ["DiffusionTransformer"], seed=seed, **given)
        contrast = {
            "contrastive_intra_loss_weight": intra_weight,
            "contrastive_inter_loss_weight": inter_weight,
            "intra_neg_sample": num_intra,
            "intra_mode": intra_mode,
            "inter_mode": inter_mode,
        }
        self._has_contrast = file != DIFFUSION_AMP
        with _precision(dtype):
            self.model = self.symbols["DiffusionTransformer"](
                transformer_config={"params": {"content_seq_len": num_tokens}},
                diffusion_step=num_steps,
                alpha_init_type="alpha1",
                auxiliary_loss_weight=auxiliary_weight,
                adaptive_auxiliary_loss=adaptive,
                mask_weight=list(token_weight),
                **(contrast if self._has_contrast else {}),
            ).to(self._device)

    def log_one_hot(self, x: Tensor) -> Tensor:
        """Upstream's log one-hot of codes (B, N): 0 and log 1e-30."""
        with _precision(self._dtype):
            return self.symbols["index_to_log_onehot"](x, self.model.num_classes)

    def q_pred(self, log_x0: Tensor, t: Tensor) -> Tensor:
        """log q(x_t | x_0); t = -1 is the data."""
        with _precision(self._dtype):
            return self.model.q_pred(log_x0, t)

    def q_pred_one_timestep(self, log_x: Tensor, t: Tensor) -> Tensor:
        """log q(x_t | x_(t-1))."""
        with _precision(self._dtype):
            return self.model.q_pred_one_timestep(log_x, t)

    def q_posterior(self, log_x0: Tensor, log_x_t: Tensor, t: Tensor) -> Tensor:
        """log q(x_(t-1) | x_t, x_0), mixed over x_0 where `log_x0` is not one-hot."""
        with _precision(self._dtype):
            return self.model.q_posterior(log_x0, log_x_t, t)

    def predict_start(self, logits: Tensor, log_x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_0 | x_t) of given logits (B, N, K)."""
        self._transformer.logits = logits
        with _precision(self._dtype):
            return self.model.predict_start(log_x_t, None, t)

    def p_pred(self, logits: Tensor, log_x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_(t-1) | x_t) of given logits (B, N, K)."""
        self._transformer.logits = logits
        with _precision(self._dtype):
            return self.model.p_pred(log_x_t, None, t)

    def train_loss(
        self,
        logits: Tensor,
        x0: Tensor,
        *,
        t: Tensor | None = None,
        share: Tensor | None = None,
        x_t: Tensor | None = None,
        intra: Tensor | None = None,
        inter: Tensor | None = None,
    ) -> Tensor:
        """Upstream's whole training loss, by its own `_train_loss`, differentiable in the logits.

        Args:
          logits: (B, N, K).
          x0: (B, N) codes.
          t, share: (B,) times and the probabilities they were drawn with; upstream draws them itself if not given.
          x_t: (B, N) corrupted codes; likewise.
          intra: (B, M, N) negatives in the place of permutations of x0; likewise.
          inter: (B, 10, N) other samples; only these must be given where `inter_weight` is not 0.

        Returns:
          (B,) nats over all tokens; upstream's scalar is the sum over B N.
        """
        self._transformer.logits = logits
        own: dict[str, Any] = {}
        if t is not None:
            own["sample_time"] = lambda *_: (t, share)
        if x_t is not None:
            own["q_sample"] = lambda **_: self.log_one_hot(x_t)
        around: dict[str, Any] = {}
        if intra is not None:
            own["intra_neg_sample"] = intra.shape[1]
            negatives = iter(intra.unbind(1))
            around["neg_sampling"] = lambda x, mode: next(negatives)
        others = (inter,) if self._has_contrast else ()
        with _replaced(vars(self.model), own), _replaced(self.symbols, around), self._seeded(), _precision(self._dtype):
            return self.model._train_loss(x0, None, *others)[1]

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[None]:
        """Upstream draws from torch's global generators: they are seeded for it and left as they were."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed_for("upstream", self._seed, self.calls))
            self.calls += 1
            yield


class _GivenLogits(nn.Module):
    """Stands where upstream's transformer would: whatever it is shown, it answers with `logits`."""

    def __init__(self, num_states: int):
        super().__init__()
        self.content_emb = nn.Module()
        self.content_emb.num_embed = num_states
        self.logits: Tensor | None = None

    def forward(self, x_t: Tensor, condition: None, t: Tensor) -> Tensor:
        return self.logits.transpose(1, 2)


class _FloatIsDouble(TorchFunctionMode):
    """Under it `.float()` gives float64, so that upstream's hard-wired single precision does not show."""

    def __torch_function__(self, function: Function, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return (torch.Tensor.double if function is torch.Tensor.float else function)(*args, **(kwargs or {}))


@contextlib.contextmanager
def _precision(dtype: torch.dtype) -> Iterator[None]:
    if dtype == torch.float32:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _FloatIsDouble():
            yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _replaced(names: dict[str, Any], values: dict[str, Any]) -> Iterator[None]:
    """Puts values under names of an object or namespace, and takes them away again."""
    before = {name: names[name] for name in values if name in names}
    names.update(values)
    try:
        yield
    finally:
        for name in values:
            del names[name]
        names.update(before)


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
