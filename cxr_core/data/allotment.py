"""Divide indivisible groups of films over parts so that every class comes near its shares."""

from collections.abc import Sequence

import numpy as np

_ATTEMPTS = 8  # orders tried before the best division is taken as it is
_ABSENT = 1e6  # what a part without a class costs, against 1 for a class one group off its target


def allot(counts: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Give every group to one part.

    A class with at least as many groups as parts gets one in every part, and each part's films of
    a class lie within one group (the class's largest) of the part's share. The second gives way
    where the first demands it, and where groups hold several classes it is approached, not proved.

    Greedy iterative stratification (Sechidis et al. 2011, doi 10.1007/978-3-642-23808-6_10) with
    groups in place of examples, then single moves while they bring the counts nearer.

    Args:
        counts: int (groups, classes), films of each class in each group.
        shares: the parts' shares of the films, summing to 1.
        rng: decides between divisions that are equally good.

    Returns:
        int (groups,), the part of each group.
    """
    best, best_score = np.zeros(len(counts), int), (np.inf, np.inf)
    for _ in range(_ATTEMPTS):
        parts = _refine(counts, shares, _distribute(counts, shares, rng))
        score = _score(counts, shares, parts)
        if score < best_score:
            best, best_score = parts, score
        if score <= (0, 1):
            break
    return best


def _distribute(
    counts: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Hand out the groups, rarest class first, largest group first, to the part that lacks most.

    What a part lacks is measured against its share of what has been handed out so far, not of all:
    else the large groups would go where the share is large, and the test would be made of patients
    with one film each. So every size of group is divided by the shares, and since the smallest
    groups come last, they even out what the larger ones left.
    """
    share = np.asarray(shares)
    held = np.zeros((len(share), counts.shape[1]))
    parts = np.full(len(counts), -1)
    order = rng.permutation(len(counts))
    for label in np.argsort((counts > 0).sum(axis=0), kind="stable"):
        waiting = order[(parts[order] < 0) & (counts[order, label] > 0)]
        waiting = waiting[np.argsort(-counts[waiting, label], kind="stable")]
        for left, group in zip(range(len(waiting), 0, -1), waiting, strict=True):
            handed_out = held[:, label].sum() + counts[group, label]
            lacking = share * handed_out - held[:, label]
            empty = held[:, label] == 0
            if empty.sum() >= left:  # the last groups are kept for the parts that have none
                lacking = np.where(empty, lacking, -np.inf)
            parts[group] = int(np.argmax(lacking))
            held[parts[group]] += counts[group]
    return parts


def _refine(counts: np.ndarray, shares: Sequence[float], parts: np.ndarray) -> np.ndarray:
    """Move one group at a time, always the best move, until none brings the counts nearer.

    Near is the sum over parts and classes of (count - target)^2 in units of the largest group, so
    the gain of moving counts n from part p to q, lacking d, is n^2 + n (d[p] - d[q]) a class.
    """
    parts = parts.copy()
    everyone = np.arange(len(counts))
    targets = np.outer(shares, counts.sum(axis=0))
    weight = 1 / np.maximum(counts.max(axis=0, initial=1), 1) ** 2
    has = (counts > 0).astype(float)
    own = (counts**2) @ weight
    while True:
        member = np.equal.outer(np.arange(len(shares)), parts).astype(float)
        pull = counts @ ((targets - member @ counts) * weight).T  # (groups, parts)
        groups_in = member @ has  # (parts, classes)
        change = own[:, None] + pull[everyone, parts][:, None] - pull
        emptied = (has @ (groups_in == 1).T)[everyone, parts]
        filled = has @ (groups_in == 0).T
        change += _ABSENT * (emptied[:, None] - filled)
        change[everyone, parts] = 0
        group, part = np.unravel_index(np.argmin(change), change.shape)
        if change[group, part] > -1e-9:
            return parts
        parts[group] = part


def _score(counts: np.ndarray, shares: Sequence[float], parts: np.ndarray) -> tuple[float, float]:
    """Return (parts that lack a class, the farthest count from its target in largest groups)."""
    held = np.stack([counts[parts == part].sum(axis=0) for part in range(len(shares))])
    off = np.abs(held - np.outer(shares, counts.sum(axis=0)))
    largest = np.maximum(counts.max(axis=0, initial=1), 1)
    return float((held == 0).sum()), float((off / largest).max(initial=0))
