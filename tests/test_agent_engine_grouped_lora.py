"""The grouped adapter operators against the plainest possible reference: one row at a time."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agent.engine import fused_lora as fused
from agent.engine import grouped_lora as ops

SLOTS, RANK, WIDE, OUT = 3, 4, 12, 10


def reference(x: Tensor, weights: Tensor, indices: Tensor, scale: float = 1.0) -> Tensor:
    """Each row times its own adapter's matrix; zero where the index is -1."""
    rows = [
        weights[i].reshape(weights.shape[-2:]) @ x[n] * scale if i >= 0 else torch.zeros(weights.shape[-2])
        for n, i in enumerate(indices.tolist())
    ]
    return torch.stack(rows)


def made(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


some_rows = st.lists(st.integers(-1, SLOTS - 1), min_size=1, max_size=17).map(torch.tensor)


@given(some_rows)
def test_groups_hold_each_adapter_row_once_and_no_other(indices: Tensor) -> None:
    rows_of = {slot: torch.arange(len(indices))[rows].tolist() for slot, rows in ops.groups(indices)}
    assert rows_of == {
        slot: [n for n, i in enumerate(indices.tolist()) if i == slot] for slot in sorted(set(indices.tolist()) - {-1})
    }


def test_rows_that_lie_together_are_a_range() -> None:
    assert ops.groups(torch.tensor([-1, 1, 1, -1])) == [(1, slice(1, 3))]


@given(some_rows, st.booleans())
@settings(deadline=None)
def test_shrink_equals_the_reference_and_is_zero_without_an_adapter(indices: Tensor, four: bool) -> None:
    x, a = made(len(indices), WIDE), made(SLOTS, RANK, WIDE)
    output = torch.full((len(indices), RANK + 2), 7.0)
    ops.bgmv_shrink(x, a.unsqueeze(1) if four else a, output, indices, 0.5)
    torch.testing.assert_close(output[:, :RANK], reference(x, a, indices, 0.5))
    assert (output[:, RANK:] == 7).all()


@given(some_rows, st.booleans(), st.sampled_from([OUT, OUT + 3, OUT - 3]))
@settings(deadline=None)
def test_expand_equals_the_reference_and_leaves_base_rows_alone(indices: Tensor, add: bool, width: int) -> None:
    x, b = made(len(indices), RANK), made(SLOTS, 1, OUT, RANK)
    before = made(len(indices), width)
    output, common = before.clone(), min(OUT, width)
    ops.bgmv_expand(x, b, output, indices, add)
    expected = reference(x, b, indices)[:, :common] + (before[:, :common] if add else 0)
    base = indices == -1
    torch.testing.assert_close(output[~base, :common], expected[~base])
    assert torch.equal(output[base], before[base])
    assert torch.equal(output[:, common:], before[:, common:])


@given(some_rows, st.booleans())
@settings(deadline=None)
def test_expand_slice_writes_its_columns_alone(indices: Tensor, add: bool) -> None:
    x, b = made(len(indices), RANK), made(SLOTS, 1, OUT, RANK)
    before = made(len(indices), OUT + 9)
    output = before.clone()
    ops.bgmv_expand_slice(x, b, output, indices, 5, OUT, add)
    expected = reference(x, b, indices) + (before[:, 5 : 5 + OUT] if add else 0)
    base = indices == -1
    torch.testing.assert_close(output[~base, 5 : 5 + OUT], expected[~base])
    assert torch.equal(output[base], before[base])
    assert torch.equal(output[:, :5], before[:, :5])
    assert torch.equal(output[:, 5 + OUT :], before[:, 5 + OUT :])


@pytest.mark.parametrize("runs", [[(0, 3), (-1, 2), (2, 1)], [(-1, 4)], [(1, 5)], [(1, 1), (0, 2), (1, 3)]])
def test_operators_for_runs_equal_those_for_rows(runs: list[tuple[int, int]]) -> None:
    slots, lengths = torch.tensor([r[0] for r in runs]), torch.tensor([r[1] for r in runs])
    rows = torch.repeat_interleave(slots, lengths)
    total = len(rows)
    meta = (torch.zeros(len(runs)), lengths, slots, len(runs), int(lengths.max()), total)
    a, b, x, y = (
        made(SLOTS, 1, RANK, WIDE),
        made(SLOTS, 1, OUT, RANK),
        made(total, WIDE),
        made(total, OUT + 2),
    )
    by_run, by_row = torch.zeros(total, RANK), torch.zeros(total, RANK)
    ops.sgmv_shrink(x, a, by_run, *meta, 2.0)
    ops.bgmv_shrink(x, a, by_row, rows, 2.0)
    assert torch.equal(by_run, by_row)
    one, two, three, four = y.clone(), y.clone(), y.clone(), y.clone()
    ops.sgmv_expand(by_run, b, one, *meta, True)
    ops.bgmv_expand(by_run, b, two, rows, True)
    ops.sgmv_expand_slice(by_run, b, three, *meta, 1, OUT, False)
    ops.bgmv_expand_slice(by_run, b, four, rows, 1, OUT, False)
    assert torch.equal(one, two)
    assert torch.equal(three, four)


def layer(sizes: tuple[int, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """A layer's empty matrices, made as vLLM makes them."""
    a = tuple(torch.zeros(SLOTS, 1, RANK, WIDE) for _ in sizes)
    return a, tuple(torch.zeros(SLOTS, 1, size, RANK) for size in sizes)


@given(some_rows, st.sampled_from([(OUT,), (6, 3, 3), (5, 5)]))
@settings(deadline=None)
def test_fused_layer_equals_its_slices_one_by_one(indices: Tensor, sizes: tuple[int, ...]) -> None:
    a, b = layer(sizes)
    fused_a, fused_b = fused.fuse_a(a), fused.fuse_b(b)
    for i in range(len(sizes)):  # an adapter is loaded after fusing, through the views
        a[i].copy_(made(SLOTS, 1, RANK, WIDE) + i)
        b[i].copy_(made(SLOTS, 1, sizes[i], RANK) - i)
        fused_a[i].copy_(a[i])
        fused_b[i].copy_(b[i])
    x, before = made(len(indices), WIDE), made(len(indices), sum(sizes))
    y = before.clone()
    fused.add_fused(y, x, fused_a, fused_b, 0.5, ops.groups(indices))
    wanted = torch.cat([reference(reference(x, a[i], indices, 0.5), b[i], indices) for i in range(len(sizes))], dim=1)
    torch.testing.assert_close(y, before + wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(y[indices == -1], before[indices == -1])


def test_fusing_keeps_what_was_loaded_and_unloading_clears_it() -> None:
    a, b = layer((6, 3, 3))
    for matrix in (*a, *b):
        matrix.copy_(made(*matrix.shape))
    fused_a, fused_b = fused.fuse_a(a), fused.fuse_b(b)
    assert all(torch.equal(view, matrix) for view, matrix in zip(fused_a, a, strict=True))
    assert all(torch.equal(view, matrix) for view, matrix in zip(fused_b, b, strict=True))
    for view in (*fused_a, *fused_b):
        view[1] = 0
    assert not fused_a.whole[1].any()
    assert not fused_b.whole[1].any()
    assert fused_b.whole[0].any()


def slices(held: Any) -> tuple[Tensor, ...]:
    """A layer's matrices; a head has but one."""
    return (held,) if isinstance(held, Tensor) else held


class Layer:
    """A layer as vLLM's are: `set_lora` clears the slot before it fills it."""

    def __init__(self) -> None:
        a, b = layer((6, 3, 3))
        self.lora_a_stacked: Any = fused.fuse_a(a)
        self.lora_b_stacked: Any = fused.fuse_b(b)

    def reset_lora(self, index: int) -> None:
        for view in (*slices(self.lora_a_stacked), *slices(self.lora_b_stacked)):
            view[index] = 0

    def set_lora(self, index: int, matrix: float) -> None:
        self.reset_lora(index)
        slices(self.lora_a_stacked)[0][index] = matrix
        slices(self.lora_b_stacked)[0][index] = matrix


def test_a_layer_is_touched_by_the_adapters_that_have_matrices_there() -> None:
    groups = [(0, slice(0, 2)), (2, slice(2, 3))]
    made, packer = kind()
    fused.know_filled(made, packer)  # a second time changes nothing
    one = made()
    one.set_lora(2, 1.0)
    assert fused.touched(groups, one.lora_b_stacked) == groups[1:]
    one.set_lora(0, 1.0)
    assert fused.touched(groups, one.lora_b_stacked) == groups
    one.reset_lora(2)
    assert fused.touched(groups, one.lora_b_stacked) == groups[:1]
    one.reset_lora(0)
    assert fused.touched(groups, one.lora_b_stacked) == []


def packing(asked: list[int]) -> Any:
    """Packs a layer by copying it, and notes the rows of each product."""

    def pack(a: Tensor, b: Tensor) -> fused.Product:
        kept = a @ b

        def product(x: Tensor) -> Tensor:
            asked.append(len(x))
            return x @ kept

        return product

    return pack


def kind(pack: Any = None) -> tuple[type[Layer], fused.Packer]:
    """A class of layers that knows what is filled, and its packer."""
    made, packer = (
        type("Known", (Layer,), {"set_lora": Layer.set_lora, "reset_lora": Layer.reset_lora}),
        fused.Packer(pack, begin=lambda work: None),
    )
    fused.know_filled(made, packer)
    return made, packer


def pack_all(packer: fused.Packer) -> None:
    while packer.pack_next():
        pass


@pytest.mark.parametrize(
    ("present", "rows", "packed"),
    [
        ([(1, slice(0, 5))], 5, [5]),
        ([(1, slice(1, 3)), (2, slice(3, 5))], 5, [2, 2]),
        ([(1, torch.tensor([0, 2, 4])), (2, torch.tensor([1, 3]))], 5, [3, 2]),
        ([(1, slice(0, fused.PACKED_ROWS))], fused.PACKED_ROWS, [fused.PACKED_ROWS]),
        ([(1, slice(0, fused.PACKED_ROWS + 1))], fused.PACKED_ROWS + 1, []),
    ],
)
def test_packed_products_are_those_of_what_is_loaded_now(
    present: list[fused.Group], rows: int, packed: list[int]
) -> None:
    asked: list[int] = []
    layers, packer = kind(packing(asked))
    one, x = layers(), made(rows, WIDE)
    for first in (1.0, 2.0):  # the second time into the same slots
        for slot in (1, 2):
            one.set_lora(slot, first * slot)
        pack_all(packer)
        asked.clear()
        before = made(rows, 12)
        y = before.clone()
        fused.add_fused(y, x, one.lora_a_stacked, one.lora_b_stacked, 1.0, present)
        assert asked == packed
        wanted = before.clone()
        for slot, mine in present:
            a, b = torch.full((WIDE, RANK), first * slot), torch.full((RANK, 6), first * slot)
            wanted[mine, :6] += x[mine] @ a @ b
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-3)
    one.reset_lora(1)
    assert set(one.lora_b_stacked.packed) == {2}


def test_a_buffer_is_made_once_for_its_size_and_shared_by_no_other_width() -> None:
    buffers = fused.Buffers()
    one, wide = buffers.get(1, 48, torch.bfloat16), buffers.get(1, 96, torch.bfloat16)
    assert one.shape == (1, 48)
    assert buffers.get(1, 48, torch.bfloat16) is one
    assert buffers.get(8, 48, torch.bfloat16).data_ptr() == one.data_ptr() != wide.data_ptr()
    assert buffers.get(fused.PACKED_ROWS, 48, torch.bfloat16).shape == (fused.PACKED_ROWS, 48)
    assert buffers.get(1, 48, torch.float32).dtype == torch.float32


def test_a_layer_after_the_other_is_packed_and_none_that_was_emptied_meanwhile() -> None:
    asked: list[int] = []
    layers, packer = kind(packing(asked))
    three, x = [layers() for _ in range(3)], made(1, WIDE)
    for one in three:
        one.set_lora(0, 1.0)
    three[1].reset_lora(0)
    packed = []
    for _ in range(3):
        packed.append([sorted(one.lora_b_stacked.packed) for one in three])
        packer.pack_next()
    assert packed == [[[], [], []], [[0], [], []], [[0], [], [0]]]
    y = torch.zeros(1, 12)
    for one in three:  # what is not packed yet is multiplied all the same
        fused.add_fused(y, x, one.lora_a_stacked, one.lora_b_stacked, 1.0, [(0, slice(0, 1))])
    torch.testing.assert_close(y[:, 0], 2 * x.sum(1) * RANK, rtol=1e-4, atol=1e-4)


def test_a_scale_and_another_number_format_are_left_to_torch() -> None:
    asked: list[int] = []
    layers, packer = kind(packing(asked))
    one = layers()
    one.set_lora(1, 1.0)
    pack_all(packer)
    y = torch.zeros(2, 12)
    fused.add_fused(y, made(2, WIDE), one.lora_a_stacked, one.lora_b_stacked, 0.5, [(1, slice(0, 2))])
    assert y[:, :6].any()
    with pytest.raises(RuntimeError, match="dtype"):
        fused.add_fused(y, made(2, WIDE).double(), one.lora_a_stacked, one.lora_b_stacked, 1.0, [(1, slice(0, 2))])
    assert asked == []


def test_what_is_changed_while_it_is_packed_is_packed_again() -> None:
    def pack(a: Tensor, b: Tensor) -> fused.Product:
        kept = a @ b
        if float(a.max()) == 1.0:
            one.set_lora(1, 2.0)  # in the midst of it
        return lambda x: x @ kept

    layers, packer = kind(pack)
    one, y = layers(), torch.zeros(1, 12)
    one.set_lora(1, 1.0)
    assert packer.pack_next()
    assert one.lora_b_stacked.packed == {}, "what was packed is of the matrices before"
    pack_all(packer)
    x = made(1, WIDE)
    fused.add_fused(y, x, one.lora_a_stacked, one.lora_b_stacked, 1.0, [(1, slice(0, 1))])
    torch.testing.assert_close(y[:, 0], 4 * x.sum(1) * RANK, rtol=1e-4, atol=1e-4)


def test_packing_goes_on_beside_the_steps_on_one_thread_and_begins_again_for_the_next_adapter() -> None:
    threads: list[tuple[str, int]] = []
    done = threading.Semaphore(0)

    def pack(a: Tensor, b: Tensor) -> fused.Product:
        threads.append((threading.current_thread().name, torch.get_num_threads()))
        done.release()
        return lambda x: x

    packer = fused.Packer(pack)
    layers = type("Known", (Layer,), {"set_lora": Layer.set_lora, "reset_lora": Layer.reset_lora})
    fused.know_filled(layers, packer)
    mine = torch.get_num_threads()
    one: Any = layers()
    for slot in (0, 1):
        one.set_lora(slot, 1.0)
        assert done.acquire(timeout=30)
        for worker in threading.enumerate():
            if worker.name == "secondnature-packer":
                worker.join(30)
    assert {name for name, _ in threads} == {"secondnature-packer"}
    assert {n for _, n in threads} == {1}
    later: list[int] = []
    fresh = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    fresh.start()
    fresh.join(30)
    assert [torch.get_num_threads(), *later] == [mine, mine]


def test_where_packing_is_refused_an_adapter_is_loaded_all_the_same() -> None:
    def refused(a: Tensor, b: Tensor) -> fused.Product:
        raise RuntimeError("could not create a primitive descriptor")

    layers, packer = kind(refused)
    one, x, y = layers(), made(3, WIDE), torch.zeros(3, 12)
    one.set_lora(1, 1.0)
    pack_all(packer)
    fused.add_fused(y, x, one.lora_a_stacked, one.lora_b_stacked, 1.0, [(1, slice(0, 3))])
    torch.testing.assert_close(y[:, 0], x.sum(1) * RANK, rtol=1e-4, atol=1e-4)
    assert one.lora_b_stacked.packed == {}


def test_a_head_that_no_adapter_has_is_not_touched() -> None:
    head = kind()[0]()
    head.lora_a_stacked, head.lora_b_stacked = torch.zeros(SLOTS, RANK, WIDE), torch.zeros(SLOTS, 1, OUT, RANK)
    head.reset_lora(0)
    groups = [(0, slice(0, 2)), (1, slice(2, 3))]
    assert fused.touched(groups, head.lora_b_stacked) == []
    head.set_lora(1, 1.0)
    assert fused.touched(groups, head.lora_b_stacked) == groups[1:]


def test_where_nobody_noted_what_is_filled_every_adapter_may_be() -> None:
    groups = [(0, slice(0, 2))]
    assert fused.touched(groups, layer((6, 3, 3))[1]) == groups
