#!/usr/bin/env bash
# glicko2 2.1.0. Player.update_player rates models by votes with Glicko-2, in which ratings stand for differences alone: the same
# games with everybody a thousand points higher should end a thousand points higher, with the same deviation and volatility. They
# do not: the step that finds the volatility takes the square of the player's rating where Glickman's has that of the deviation. A
# player who wins twenty games a period against others who begin 800 points higher gains 1396 points in 30 periods, with a
# deviation of 50 and a volatility of 0.084, wherever the scale begins. The package gives 1350, 42 and 0.067 for a beginning at
# 1500, and 1330, 39 and 0.061 for one at 500: the volatility hardly rises, so that a model that has become better (a new
# checkpoint) follows too slowly and is thought too certain. Glickman's own example, of one period, comes out right.
# Do instead: put the right function in its place, as ByDeviation below, or use another implementation.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check glicko2==2.1.0
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata
import math

from glicko2 import Player

print("glicko2", importlib.metadata.version("glicko2"))


class ByDeviation(Player):
    """With the function of Glickman's step 5: of the deviation, not of the rating."""

    def _f(self, x, delta, v, a):
        square = (self.rd / 173.7178) ** 2
        numerator = math.exp(x) * (delta**2 - square - v - math.exp(x))
        return numerator / (2 * (square + v + math.exp(x)) ** 2) - (x - a) / self._tau**2


def rated(kind, begin, periods, lead):
    """Twenty wins a period against players who are better by `lead`: points above `begin`, deviation, volatility."""
    player = kind(begin, 50, 0.06)
    for _ in range(periods):
        player.update_player([begin + lead] * 20, [50] * 20, [1] * 20)
    return player.rating - begin, player.rd, player.vol


example = Player(1500, 200, 0.06)
example.update_player([1400, 1550, 1700], [30, 100, 300], [1, 0, 0])
print(f"Glickman's example: {example.rating:.2f}, {example.rd:.2f}, {example.vol:.5f}")
assert abs(example.rating - 1464.06) < 0.02 and abs(example.rd - 151.52) < 0.02 and abs(example.vol - 0.06) < 1e-4
for begin, points, volatility in ((500, 1329.6, 0.0611), (1500, 1349.9, 0.0672), (2500, 1326.9, 0.0601)):
    found, right = (rated(kind, begin, periods=30, lead=800) for kind in (Player, ByDeviation))
    for name, (gained, deviation, volatile) in (("package", found), ("by the deviation", right)):
        print(f"begun at {begin}, {name}: {gained:.1f} points gained, deviation {deviation:.1f}, volatility {volatile:.4f}")
    assert abs(found[0] - points) < 0.1 and abs(found[2] - volatility) < 1e-4
    assert abs(right[0] - 1395.6) < 0.1 and abs(right[1] - 50.1) < 0.1 and abs(right[2] - 0.0835) < 1e-4
EOF
