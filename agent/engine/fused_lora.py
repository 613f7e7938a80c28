"""A layer's adapters as vLLM holds them, made ready to be multiplied quickly: fused, and packed.

The slices of a layer (q, k, v; gate, up) lie in one tensor, and what vLLM knows as one matrix per slice are views into
it, so that loading an adapter fills them. Which slots are filled is noted, and what was filled is packed once for
oneDNN, as vLLM packs the base's own matrices: torch's product looks for its plan anew each time, which takes longer
than a small product itself. Used by the plugin agent/engine/grouped_lora.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Rows = slice | Tensor
Group = tuple[int, Rows]
"""An adapter's slot, and its rows in the batch: a range where they lie together, else their numbers."""

Product = Callable[[Tensor], Tensor]
"""x (rows, in) -> x A^T B^T (rows, out), both packed: in a buffer that the next product of this size overwrites."""

Pack = Callable[[Tensor, Tensor], Product]
"""Packs a layer's A^T [in, slices * rank] and B^T [slices * rank, out], or raises."""

PACKED_ROWS = 64  # as many as are drawn at once; the many of a prompt are left to torch's product, which adds too
REST_S = 0.01  # seconds between two layers: a hundred take a second, and no step meets many
FILLED = "secondnature_filled"  # on a layer's B matrices: the slots that an adapter has filled


class Fused(tuple[Tensor, ...]):
    """A layer's matrices, one per slice, as vLLM knows them: views into `whole` [slots, out, in]."""

    whole: Tensor
    turned: tuple[Tensor, ...]  # each slot's matrix as [in, out]: a view, made once and not in every step
    packed: dict[int, Product]  # on B: with its A, by slot; none where vLLM cannot pack


def _fused(views: Iterable[Tensor], whole: Tensor) -> Fused:
    made = Fused(views)
    made.whole, made.turned, made.packed = whole, tuple(matrix.t() for matrix in whole), {}
    return made


def fuse_a(stacked: Sequence[Tensor]) -> Fused:
    """A matrices, each [slots, 1, rank, in], under each other: whole [slots, slices * rank, in]."""
    whole = torch.cat([matrix[:, 0] for matrix in stacked], dim=1)
    rank = stacked[0].shape[2]
    return _fused((whole[:, None, i * rank : (i + 1) * rank] for i in range(len(stacked))), whole)


def fuse_b(stacked: Sequence[Tensor]) -> Fused:
    """B matrices, each [slots, 1, out, rank], on a diagonal: whole [slots, sum of out, slices * rank]."""
    slots, _, _, rank = stacked[0].shape
    sizes = [matrix.shape[2] for matrix in stacked]
    whole = stacked[0].new_zeros(slots, sum(sizes), len(stacked) * rank)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    views = [
        whole[:, None, start : start + size, i * rank : (i + 1) * rank]
        for i, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]
    for view, matrix in zip(views, stacked, strict=True):
        view.copy_(matrix)
    return _fused(views, whole)


def add_fused(y: Tensor, x: Tensor, a: Fused, b: Fused, scale: float, present: Sequence[Group]) -> None:
    """y[rows] += x[rows] A^T B^T * scale for each adapter present.

    y [rows, out], x [rows, in], a: whole [slots, slices * rank, in], b: whole [slots, out, slices * rank].
    """
    for slot, rows in present:
        if isinstance(rows, slice):
            all_rows = rows.stop - rows.start == y.shape[0]
            target, taken = (y, x) if all_rows else (y[rows], x[rows])
            if _is_packed(b, slot, taken, scale):
                target.add_(b.packed[slot](taken))
            else:
                target.addmm_(torch.mm(taken, a.turned[slot]), b.turned[slot], alpha=scale)
        else:
            taken = x.index_select(0, rows)
            if _is_packed(b, slot, taken, scale):
                y.index_add_(0, rows, b.packed[slot](taken))
            else:
                y.index_add_(0, rows, torch.mm(torch.mm(taken, a.turned[slot]), b.turned[slot]), alpha=scale)


def _is_packed(b: Fused, slot: int, x: Tensor, scale: float) -> bool:
    """Whether the packed product may be taken: it does not look at the number format of what it is given."""
    return slot in b.packed and len(x) <= PACKED_ROWS and scale == 1 and x.dtype == b.whole.dtype


def touched(present: Sequence[Group], b: Any) -> Sequence[Group]:
    """The groups whose adapter has matrices here; all of them where that is not known (sharded layers)."""
    filled = getattr(b, FILLED, None)
    return present if filled is None else [group for group in present if group[0] in filled]


def packing() -> Pack | None:
    """How vLLM packs a matrix for oneDNN; None where it does not pack its own either.

    The operator is called as it is, into buffers that all layers share: vLLM's function around it makes a tensor each
    time, half of what one row's product takes.
    """
    from vllm import _custom_ops
    from vllm.platforms import CpuArchEnum, current_platform

    if not _custom_ops._supports_onednn or current_platform.get_cpu_architecture() == CpuArchEnum.POWERPC:
        return None
    multiply = torch.ops._C.onednn_mm.default
    inner, outer = Buffers(), Buffers()  # two, for a product must not be written where it is read

    def pack(a: Tensor, b: Tensor) -> Product:
        first, second = _custom_ops.create_onednn_mm(a), _custom_ops.create_onednn_mm(b)

        def product(x: Tensor) -> Tensor:
            shrunk, out = inner.get(len(x), first.n, x.dtype), outer.get(len(x), second.n, x.dtype)
            multiply(shrunk, x, None, first.handler_tensor)
            multiply(out, shrunk, None, second.handler_tensor)
            return out

        return product

    return pack


class Buffers:
    """Results of products, one of each size: for one thread, which uses each before it asks for the next."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int, torch.dtype], Tensor] = {}

    def get(self, rows: int, width: int, dtype: torch.dtype) -> Tensor:
        """[rows, width], not cleared. `rows`: 1 to PACKED_ROWS, which share their memory."""
        key = (rows, width, dtype)
        if (found := self._made.get(key)) is None:
            most = self._made.setdefault((PACKED_ROWS, width, dtype), torch.empty(PACKED_ROWS, width, dtype=dtype))
            found = self._made[key] = most[:rows]
        return found


def in_a_thread(work: Callable[[], None]) -> None:
    """Do it in turns with the engine's steps, on one processor thread."""

    def alone() -> None:
        one_thread()
        work()

    threading.Thread(target=alone, name="secondnature-packer", daemon=True).start()


def one_thread() -> None:
    """Let OpenMP use the calling thread alone in what it does from here on. Other threads' settings stay as they
    are: `torch.set_num_threads` would change that of threads to come."""
    torch.get_num_threads()  # torch sets OpenMP's number when a thread first asks, and not again
    with contextlib.suppress(AttributeError):  # no OpenMP here
        ctypes.CDLL(None).omp_set_num_threads(1)


class Packer:
    """Packs what was loaded, a layer after the other, in a thread of its own: within the steps, whose threads wait for
    each other, it takes ten times as long. Until its turn comes a layer is multiplied by torch."""

    def __init__(self, pack: Pack | None, begin: Callable[[Callable[[], None]], None] = in_a_thread) -> None:
        """`pack`: None where nothing is ever packed. `begin` has the packing done while others work; a worker of its
        own goes on until nothing waits."""
        self._pack, self._begin = pack, begin
        self._lock = threading.Lock()
        self._waiting: dict[tuple[int, int], tuple[Fused, Fused]] = {}  # by the B matrices' id and the slot
        self._works = False

    def changed(self, a: Fused, b: Fused, slot: int, filled: bool) -> None:
        """A layer's slot holds other matrices now, or none."""
        with self._lock:
            b.packed.pop(slot, None)
            self._waiting.pop((id(b), slot), None)
            if not filled or self._pack is None:
                return
            self._waiting[id(b), slot] = (a, b)
            if self._works:
                return
            self._works = True
        self._begin(self._work)

    def _work(self) -> None:
        while self.pack_next():
            time.sleep(REST_S)

    def pack_next(self) -> bool:
        """Pack the next layer. Returns whether there was one."""
        with self._lock:
            key = next(iter(self._waiting), None)
            if key is None:
                self._works = False
                return False
            layer, slot = self._waiting[key], key[1]
        a, b = layer
        assert self._pack is not None
        try:
            packed = self._pack(a.turned[slot], b.turned[slot])
        except Exception:  # oneDNN has not this number format here, or there is no memory: torch multiplies
            packed = None
        with self._lock:
            if self._waiting.get(key) is layer:  # else it was changed meanwhile
                del self._waiting[key]
                if packed is not None:
                    b.packed[slot] = packed
        return True


def know_filled(layer: Any, packer: Packer) -> None:
    """Let a layer's class note on its B matrices which slots `set_lora` has filled and `reset_lora` emptied, and tell
    the packer."""

    def noting(change: Any, filled: bool) -> Any:
        def changed(self: Any, index: int, *args: Any, **kwargs: Any) -> None:
            change(self, index, *args, **kwargs)
            held = self.lora_b_stacked
            if not isinstance(held, Fused | Tensor):  # vLLM keeps a plain tuple where it is not ours
                return
            slots = held.__dict__.setdefault(FILLED, set())
            (slots.add if filled else slots.discard)(index)
            if isinstance(held, Fused):
                packer.changed(self.lora_a_stacked, held, index, filled)

        changed.secondnature = True  # type: ignore[attr-defined]
        return changed

    for name, filled in (("set_lora", True), ("reset_lora", False)):
        own = vars(layer).get(name)
        if own is not None and not hasattr(own, "secondnature"):
            setattr(layer, name, noting(own, filled))
