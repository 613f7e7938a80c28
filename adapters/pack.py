"""Many short examples as one row in which every shared prompt prefix is computed once. No torch.

Lessons of a skill share the system prompt and the question's head, often half of their tokens. A batch is
laid out as a token tree, depth first: a token's context is its path from the root, so the attention mask lets
it see its ancestors alone, and its position is its depth. A causal model then computes for each node exactly
what it would compute in the separate sequences, and a shared node's gradient is the sum of theirs. Nothing is
padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.dataset import Example

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pack:
    """One row of N nodes with M answer tokens to predict."""

    tokens: Ints  # (N,) token ids
    positions: Ints  # (N,) depth in the tree, from 0
    ends: Ints  # (N,) one past the last descendant of each node
    rows: Ints  # (M,) the node whose output predicts
    targets: Ints  # (M,) the token it should predict
    weights: NDArray[np.float32]  # (M,) 0..1
    n_plain: int  # tokens that the examples would take one by one, without padding

    def visible(self) -> NDArray[np.bool_]:
        """(N, N), True where node i may attend to node j: j is i or an ancestor of i."""
        index = np.arange(len(self.tokens))
        return (index[None, :] <= index[:, None]) & (index[:, None] < self.ends[None, :])


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def pack(examples: Sequence[Example]) -> Pack:
    """Lay examples out as one tree. The last token of each is only a target, never an input."""
    tokens: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    rows: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    path: list[int] = []
    before: Sequence[int] = ()
    for example in sorted(examples, key=lambda e: e.ids):
        inputs = example.ids[:-1]
        path = path[: _shared(before, inputs)]
        for depth in range(len(path), len(inputs)):
            path.append(len(tokens))
            tokens.append(inputs[depth])
            depths.append(depth)
            ends.append(0)
        for node in path:
            ends[node] = len(tokens)
        rows += path[example.n_prompt - 1 :]
        targets += example.ids[example.n_prompt :]
        weights += [example.weight] * (len(example.ids) - example.n_prompt)
        before = inputs
    return Pack(
        np.array(tokens, np.int64),
        np.array(depths, np.int64),
        np.array(ends, np.int64),
        np.array(rows, np.int64),
        np.array(targets, np.int64),
        np.array(weights, np.float32),
        sum(len(e.ids) - 1 for e in examples),
    )


def packs(examples: Sequence[Example], pack_tokens: int) -> Iterator[Pack]:
    """Cut a batch into packs of at most `pack_tokens` nodes, neighbours in the tree together.

    A single example longer than that makes a pack of its own.
    """
    chunk: list[Example] = []
    size = 0
    for example in sorted(examples, key=lambda e: e.ids):
        new = len(example.ids) - 1
        added = new - (_shared(chunk[-1].ids[:-1], example.ids[:-1]) if chunk else 0)
        if chunk and size + added > pack_tokens:
            yield pack(chunk)
            chunk, size, added = [], 0, new
        chunk.append(example)
        size += added
    if chunk:
        yield pack(chunk)
