"""Taking symbols out of a checkout by its syntax tree, with a checkout of our own making."""

import subprocess
from pathlib import Path

import pytest
import torch
from shapes import unchecked

from cdcd_video.errors import UserError
from cdcd_video.tools.upstream.functions import COMMIT, DIFFUSION, TREES, Upstream, tree_hash
from cdcd_video.tools.upstream.upstream_loss import UpstreamLoss

SOURCE = '''
raise RuntimeError("whoever imports this file gets this")

import math
import random
import torch
from torch import nn
import a_library_that_nobody_has
from another.one import thing, instantiate_from_config

SCALE = 2.0
UNUSED = thing("not taken, so not run")


def doubled(x):
    """Twice."""
    return SCALE * x


def root_of_doubled(x):
    return math.sqrt(doubled(x))


def dealt(count):
    cards = list(range(count))
    random.shuffle(cards)
    return cards


def needs_thing():
    return thing()


def neg_sampling(x, mode):
    return x.flip(1)


def index_to_log_onehot(x, num_classes):
    states = torch.nn.functional.one_hot(x, num_classes).float().clamp(min=1e-30)
    return states.log().transpose(1, 2)


class DiffusionTransformer(nn.Module):
    def __init__(self, transformer_config, diffusion_step, **settings):
        super().__init__()
        self.transformer = instantiate_from_config(transformer_config)
        self.num_classes = self.transformer.content_emb.num_embed
        self.num_timesteps, self.settings = diffusion_step, settings
        self.intra_neg_sample = settings["intra_neg_sample"]
        self.register_buffer("rate", torch.ones(1).float())

    def sample_time(self, count, device, kind):
        return torch.randint(self.num_timesteps, (count,)), torch.full((count,), 1 / self.num_timesteps)

    def q_sample(self, log_x_start, t):
        return log_x_start

    def level(self, x):
        return x + self.num_timesteps

    def _train_loss(self, x, condition, negatives):
        t, share = self.sample_time(len(x), x.device, "importance")
        log_x_t = self.q_sample(log_x_start=index_to_log_onehot(x, self.num_classes), t=t)
        logits = self.transformer(log_x_t.argmax(1), condition, t)
        log_p = logits.log_softmax(1).float()
        loss = -log_p.gather(1, x[:, None]).sum((1, 2)) / share
        for _ in range(self.intra_neg_sample):
            loss = loss + 0.5 * log_p.gather(1, neg_sampling(x, "random")[:, None]).sum((1, 2))
        return None, loss * self.rate
'''


def fake_checkout(folder: Path, source: str = SOURCE) -> Path:
    """A folder that looks like a checkout, with a loss that is not upstream's."""
    file = folder / DIFFUSION
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    return folder


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(fake_checkout(tmp_path))


def test_symbols_come_with_what_they_use_and_nothing_else(upstream: Upstream):
    names = upstream.symbols(DIFFUSION, ["root_of_doubled"])
    assert names["root_of_doubled"](8) == 4.0
    assert {"doubled", "SCALE", "math"} <= names.keys() and not {"torch", "UNUSED", "dealt"} & names.keys()


def test_given_names_win_and_a_namespace_is_live(upstream: Upstream):
    names = upstream.symbols(DIFFUSION, ["root_of_doubled", "needs_thing"], doubled=lambda x: x, thing=lambda: 7)
    assert names["root_of_doubled"](9) == 3.0 and names["needs_thing"]() == 7
    names["doubled"] = lambda x: 4 * x
    assert names["root_of_doubled"](9) == 6.0


def test_a_method_comes_out_as_a_function(upstream: Upstream):
    level = upstream.symbols(DIFFUSION, ["DiffusionTransformer.level"])["level"]
    assert level(type("Anything", (), {"num_timesteps": 3}), 4) == 7


def test_what_is_imported_from_elsewhere_stays_undone(upstream: Upstream):
    with pytest.raises(NameError, match="thing"):
        upstream.symbols(DIFFUSION, ["needs_thing"])["needs_thing"]()


def test_randomness_is_a_stream_of_its_own_and_pythons(upstream: Upstream):
    import random

    random.seed(3)
    expected = list(range(20))
    random.shuffle(expected)
    state = random.getstate()
    with unchecked():  # a check looks at items that it picks by the module's generator
        assert upstream.symbols(DIFFUSION, ["dealt"], seed=3)["dealt"](20) == expected
    assert random.getstate() == state


@pytest.mark.parametrize("name", ["absent", "doubled.absent", "DiffusionTransformer.absent"])
def test_a_missing_symbol_is_a_sentence(upstream: Upstream, name: str):
    with pytest.raises(UserError, match=name):
        upstream.symbols(DIFFUSION, [name])


def test_a_missing_or_broken_file_is_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="is not a folder"):
        Upstream(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no CDCD"):
        Upstream(tmp_path)
    upstream = Upstream(fake_checkout(tmp_path, "def broken(:"))
    with pytest.raises(UserError, match="is not Python"):
        upstream.tree(DIFFUSION)
    with pytest.raises(UserError, match=r"has no file synthesis/other\.py"):
        upstream.tree("synthesis/other.py")


def test_another_text_or_commit_is_said(upstream: Upstream, monkeypatch: pytest.MonkeyPatch):
    assert "is not CDCD's at 667f9c0" in upstream.warning(DIFFUSION)
    monkeypatch.setitem(TREES, DIFFUSION, tree_hash(upstream.tree(DIFFUSION)))
    assert upstream.warning(DIFFUSION) == "" and upstream.commit() is None
    git = ["git", "-C", str(upstream.folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "other"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    assert upstream.commit() != COMMIT
    assert f"is CDCD at {upstream.commit()[:7]}, not at 667f9c0" in upstream.warning(DIFFUSION)


def test_tree_hash_looks_at_what_the_code_says_only():
    import ast

    one, same, other = "x = f(1)  # a", "x = f( 1 )\n", "x = f(2)"
    assert tree_hash(ast.parse(one)) == tree_hash(ast.parse(same)) != tree_hash(ast.parse(other))


@pytest.fixture
def loss(upstream: Upstream) -> UpstreamLoss:
    sizes = dict(num_codes=5, num_steps=4, num_tokens=3)
    return UpstreamLoss(upstream, **sizes, num_intra=2, intra_weight=1.0, dtype=torch.float64)


def test_given_draws_take_the_place_of_upstreams(loss: UpstreamLoss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    x0, x_t = torch.tensor([[0, 1, 2], [3, 4, 0]]), torch.tensor([[5, 1, 2], [5, 5, 5]])
    intra = torch.tensor([[[1, 1, 1]], [[2, 2, 2]]])
    share = torch.tensor([0.5, 0.25], dtype=torch.float64)
    seen = []
    loss.model.transformer.register_forward_hook(lambda module, given, out: seen.append(given))
    found = loss.train_loss(logits, x0, t=torch.tensor([1, 2]), share=share, x_t=x_t, intra=intra)
    log_p = logits.log_softmax(-1)
    truth, negative = (log_p.gather(-1, x[..., None]).sum((1, 2)) for x in (x0, intra[:, 0]))
    torch.testing.assert_close(found, -truth / share + 0.5 * negative, rtol=1e-14, atol=0)
    assert found.dtype == torch.float64 and torch.equal(seen[0][0], x_t) and seen[0][2].tolist() == [1, 2]
    found.sum().backward()
    assert logits.grad.abs().max() > 0
    # Afterwards upstream draws for itself again, with as many negatives as it was built with.
    loss.train_loss(logits, x0)
    assert torch.equal(seen[1][0], x0) and loss.model.intra_neg_sample == 2


def test_upstreams_draws_leave_torchs_generator_alone(loss: UpstreamLoss):
    logits, x0 = torch.zeros(64, 3, 5, dtype=torch.float64), torch.zeros(64, 3, dtype=torch.long)
    drawn = []
    loss.model.transformer.register_forward_hook(lambda module, given, out: drawn.append(given[2]))
    state = torch.get_rng_state()
    for _ in range(2):
        loss.train_loss(logits, x0)
    assert torch.equal(torch.get_rng_state(), state) and not torch.equal(*drawn)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_precision_is_upstreams_only_where_it_is_asked_for(upstream: Upstream, dtype: torch.dtype):
    loss = UpstreamLoss(upstream, num_codes=5, num_steps=4, num_tokens=3, dtype=dtype)
    assert loss.model.rate.dtype == dtype
    assert loss.log_one_hot(torch.zeros(1, 3, dtype=torch.long)).dtype == dtype
