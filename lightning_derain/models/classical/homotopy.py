"""The lasso of many signals at once, by following its solutions as the penalty falls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.models.classical.sparse_coding import BLOCK, Codes, first_rows, largest, portions, weighted_rows

EVENTS = 4
"""A path ends after as many events for each dimension of the signals, which only a penalty near 0 may need."""

CROWDED = 0.75
"""The signals that are not done move together once they are less than this share."""


def lasso(signals: Tensor, dictionary: Tensor, penalty: float) -> Codes:
    """The codes c that minimise `1/2 |x - c D|^2 + penalty |c|_1`, exactly but for rounding; see `Homotopy`.

    Where an atom is the same as another, or its opposite, a path may end a little above the minimum: as in LARS, the
    second is turned down, and does not come back once the first has left.

    Args:
        signals: `(B, N, d)`.
        dictionary: `(B, K, d)`.
        penalty: at least 0.
    """
    none = dictionary.shape[1]
    dictionary = F.pad(dictionary, (0, 0, 0, BLOCK - none % BLOCK))
    gram = dictionary @ dictionary.mT
    coded = [Homotopy(part, dictionary, gram, none).follow(penalty) for part in signals.chunk(portions(signals), 1)]
    width = max(codes.atoms.shape[2] for codes in coded)
    wide = [[F.pad(each, (0, width - each.shape[2])) for each in (codes.atoms, codes.values)] for codes in coded]
    return Codes(torch.cat([atoms for atoms, _ in wide], 1), torch.cat([values for _, values in wide], 1))


class Homotopy:
    """The lasso's codes of many signals as the penalty λ falls (Osborne, Presnell, Turlach, 2000; "LARS").

    With atoms A and their signs s the code is `fit - λ slope`, and all atoms correlate with what it leaves by
    `left + λ pull`, down to the next event: a correlation gets to λ or -λ, and its atom enters, or a coefficient gets
    to 0, and its atom leaves. Both change the inverse of the Gram matrix of A by a multiple of `w w^T`, code and
    correlations by multiples of w and of what `w A` correlates with. Each event has a place in A; where no atom
    is, or no longer, stands `none`, with the sign 0.

    Args:
        signals: `(B, N, d)`.
        dictionary: `(B, K, d)`; from the atom `none` on, atoms of zeros.
        gram: `(B, K, K)`, of the dictionary.
        none: an atom of zeros.
    """

    def __init__(self, signals: Tensor, dictionary: Tensor, gram: Tensor, none: int) -> None:
        self.shape, self.none, self.table = signals.shape, none, gram.flatten(0, 1)
        self.left = (signals @ dictionary.mT).flatten(0, 1)
        self.pull = torch.zeros_like(self.left)
        self.first = first_rows(dictionary, signals).expand(*self.shape[:2], 1).reshape(-1, 1)
        self.index = torch.arange(len(self.left), device=signals.device)
        self.atoms = self.first[:, :0]
        self.signs = self.fit = self.slope = self.left[:, :0]
        self.inverse = self.left.new_zeros(len(self.left), 0, 0)
        self.tiny = 100 * torch.finfo(self.left.dtype).eps

    def follow(self, penalty: float) -> Codes:
        """The codes at a penalty."""
        events = EVENTS * self.shape[2]
        atoms = self.index.new_zeros(len(self.index), events)
        values = self.left.new_zeros(atoms.shape)
        for event in range(events + 1):
            going = self.advance(penalty) if event < events else torch.zeros_like(self.index, dtype=torch.bool)
            number = int(going.sum())
            if number < CROWDED * len(going):
                done = self.index[~going]
                code = (self.fit - penalty * self.slope)[~going]
                atoms[done, : code.shape[1]] = self.atoms[~going]
                values[done, : code.shape[1]] = code
                self.keep(going)
            if number == 0:
                break
        width = self.atoms.shape[1]
        there = atoms[:, :width] != self.none
        shape = (*self.shape[:2], width)
        return Codes((atoms[:, :width] * there).view(shape), (values[:, :width] * there).view(shape))

    def keep(self, chosen: Tensor) -> None:
        """Goes on with some signals alone."""
        for name in ("left", "pull", "first", "index", "atoms", "signs", "fit", "slope", "inverse"):
            setattr(self, name, getattr(self, name)[chosen])

    def advance(self, penalty: float) -> Tensor:
        """Takes the next event of each signal; false where that lies below the penalty, and nothing changes, `(n,)`."""
        atom, enters = self.next_entry()
        ends = torch.where(self.signs * self.fit < 0, self.fit / self.slope, 0.0)
        leaves, place = F.pad(ends, (0, 1)).max(1, keepdim=True)
        going = torch.maximum(enters, leaves) > penalty
        self.change(atom, place, going, leaves > enters)
        return going.squeeze(1)

    def next_entry(self) -> tuple[Tensor, Tensor]:
        """The atom that enters next, and the penalty at which it does, `(n, 1)`.

        One like those in A has both its correlations 0, so that its level may be any number: `change` turns it down.
        """
        slack = torch.ones_like(self.left).copysign_(self.left).sub_(self.pull)
        levels = torch.div(self.left, slack, out=slack).nan_to_num_()
        levels.scatter_(1, self.atoms, 0)
        atom = largest(levels)
        return atom, levels.gather(1, atom)

    def change(self, atom: Tensor, place: Tensor, going: Tensor, leaving: Tensor) -> None:
        """Lets an atom enter, or that at a place leave, where a signal is going on."""
        width = self.atoms.shape[1]
        first, rows = self.first, self.first + self.atoms
        self.atoms = torch.cat([self.atoms, torch.where(going & ~leaving, atom, self.none)], 1)
        self.inverse = F.pad(self.inverse, (0, 1, 0, 1))
        fit, slope, signs = (F.pad(each, (0, 1)) for each in (self.fit, self.slope, self.signs))
        shares = (self.inverse[:, :width, :width] @ self.table[rows, atom].unsqueeze(2)).squeeze(2)
        height = self.table[first + atom, atom] - (shares * self.table[rows, atom]).sum(1, keepdim=True)
        column = self.inverse.gather(2, place.unsqueeze(2).expand(-1, width + 1, 1)).squeeze(2)
        direction = torch.where(leaving, column, F.pad(-shares, (0, 1), value=1.0))
        scale = torch.where(leaving, -1 / column.gather(1, place), 1 / height)
        scale = scale.masked_fill(~going | (~leaving & (height < self.tiny)), 0)
        sign = torch.where(leaving, 0.0, self.left.gather(1, atom).sign())
        step = scale * torch.where(leaving, fit.gather(1, place), self.left.gather(1, atom))
        turn = scale * torch.where(leaving, slope.gather(1, place), sign - self.pull.gather(1, atom))
        moved = weighted_rows(first + self.atoms, self.table, direction)
        self.left.addcmul_(moved, step, value=-1)
        self.pull.addcmul_(moved, turn)
        self.inverse.baddbmm_((scale * direction).unsqueeze(2), direction.unsqueeze(1))
        self.fit, self.slope = fit + step * direction, slope + turn * direction
        signs[:, -1:] = sign * (scale != 0)
        gone = going & leaving
        self.signs = signs.scatter(1, place, signs.gather(1, place).masked_fill(gone, 0))
        self.atoms = self.atoms.scatter(1, place, self.atoms.gather(1, place).masked_fill(gone, self.none))
