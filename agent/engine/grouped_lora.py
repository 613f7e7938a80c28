"""A vLLM plugin: adapter operators on the CPU that leave other rows alone, grouped by adapter.

Why: vLLM 0.32's torch operators copy the adapter's matrices for every token, and index them with -1 for a
token without an adapter, which is the last slot: base answers in a mixed batch are then given by the adapter
in that slot (vLLM pull request 48421 has the same finding for the wrong rows).

What: rows are grouped by adapter once per step. A linear layer's adapter then costs two matrix products per
adapter in the batch, for the layer's slices (q, k, v; gate, up) together: their A matrices lie under each
other in one tensor, their B matrices on the diagonal of another, and what vLLM knows as one matrix per slice
are views into these, so that loading an adapter fills them. The other operators (logits, embedding, sharded
layers) are replaced by grouped ones that keep their signature.

A layer that an adapter has no matrices for (fused q, k, v count as one) is left out. vLLM keeps zeros in such a
slot, and adds what they make: for the head, which hardly any adapter has, to every token of the vocabulary.

Not covered: mixture-of-experts layers, which vLLM's CPU backend does not serve adapters for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from agent.engine.fused_lora import Fused, Group, Packer, add_fused, fuse_a, fuse_b, know_filled, packing, touched


def register() -> None:
    """Entry point `vllm.general_plugins`. Called in each of vLLM's processes; does nothing on a GPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for operator in (
        bgmv_shrink,
        bgmv_expand,
        bgmv_expand_slice,
        sgmv_shrink,
        sgmv_expand,
        sgmv_expand_slice,
    ):
        for module in (lora_ops, torch_ops, punica_cpu):  # each bound the names when it was imported
            setattr(module, operator.__name__, operator)
    _replace_wrapper(punica_cpu.PunicaWrapperCPU)


def groups(indices: Tensor) -> list[Group]:
    """Slots present in `indices` [rows] with their rows; -1 (no adapter) is in no group."""
    found: list[Group] = []
    for slot in torch.unique(indices).tolist():
        if slot >= 0:
            rows = torch.nonzero(indices == slot).squeeze(1)
            first, last = int(rows[0]), int(rows[-1])
            together = last - first + 1 == rows.numel()
            found.append((slot, slice(first, last + 1) if together else rows))
    return found


def _replace_wrapper(wrapper: Any) -> None:
    """Group once per step, and use the fused matrices; the same class twice stays as it is."""
    if hasattr(wrapper, "secondnature_groups"):
        return
    make, update = wrapper.__init__, wrapper.update_metadata

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if wrapper.secondnature_packer is None:
            # Here, in the worker: the layers' module is slow to import where it is not needed.
            wrapper.secondnature_packer = Packer(packing())
            _change_layers(wrapper.secondnature_packer)

    def update_metadata(self: Any, *args: Any, **kwargs: Any) -> None:
        update(self, *args, **kwargs)
        self.secondnature_groups = groups(self.token_lora_indices)

    wrapper.secondnature_groups = ()
    wrapper.secondnature_packer = None
    wrapper.__init__ = __init__
    wrapper.update_metadata = update_metadata
    _replace_products(wrapper)


def _replace_products(wrapper: Any) -> None:
    """Take the fused matrices where there are some, and leave out what no adapter of the batch has filled."""
    add_linear, add_logits = wrapper.add_lora_linear, wrapper.add_lora_logits
    add_embedding = wrapper.add_lora_embedding

    def add_lora_linear(
        self: Any, y: Tensor, x: Tensor, lora_a: Any, lora_b: Any, scale: float, slices: Any, **kwargs: Any
    ) -> None:
        here = touched(self.secondnature_groups, lora_b)
        if not here:
            return
        if kwargs.get("buffer") is None and isinstance(lora_a, Fused) and lora_b.whole.shape[1] == y.shape[-1]:
            if y.ndim > 2:
                y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
            add_fused(y, x, lora_a, lora_b, scale, here)
        else:
            add_linear(self, y, x, lora_a, lora_b, scale, slices, **kwargs)

    def add_lora_logits(self: Any, y: Tensor, x: Tensor, lora_a: Any, lora_b: Any, scale: float, **kwargs: Any) -> None:
        if touched(self.secondnature_groups, lora_b):
            add_logits(self, y, x, lora_a, lora_b, scale, **kwargs)

    def add_lora_embedding(self: Any, y: Tensor, x: Tensor, lora_b: Any, *args: Any, **kwargs: Any) -> None:
        if touched(self.secondnature_groups, lora_b):
            add_embedding(self, y, x, lora_b, *args, **kwargs)

    wrapper.add_lora_linear = add_lora_linear
    wrapper.add_lora_logits = add_lora_logits
    wrapper.add_lora_embedding = add_lora_embedding


def _change_layers(packer: Packer) -> None:
    """Let every linear layer fuse its matrices when it gets the wrapper, before any adapter is loaded, and every layer
    know which slots are filled."""
    from vllm.lora.layers import base, base_linear

    linear_layer: Any = base_linear.BaseLinearLayerWithLoRA
    any_layer: Any = base.BaseLayerWithLoRA

    def set_mapping(self: Any, punica_wrapper: Any) -> None:
        any_layer.set_mapping(self, punica_wrapper)
        sharded = self.lora_config.fully_sharded_loras  # these have another path, on the grouped operators
        if not sharded and not isinstance(self.lora_a_stacked, Fused):
            self.lora_a_stacked, self.lora_b_stacked = (
                fuse_a(self.lora_a_stacked),
                fuse_b(self.lora_b_stacked),
            )

    linear_layer.set_mapping = set_mapping
    for layer in _below(any_layer):
        know_filled(layer, packer)


def _below(kind: type[Any]) -> set[type[Any]]:
    """A class and all that are made of it."""
    return {kind}.union(*(_below(one) for one in kind.__subclasses__()))


def bgmv_shrink(inputs: Tensor, lora_a: Tensor, output: Tensor, indices: Tensor, scaling: float = 1.0) -> None:
    """output[rows] = inputs[rows] A^T * scaling, zero where no adapter is; A is [slots, (1,) rank, in]."""
    rank = lora_a.shape[-2]
    output[:, :rank] = 0
    for slot, rows in groups(indices):
        weights = _matrix(lora_a, slot).to(output.dtype)
        output[rows, :rank] = linear(inputs[rows].to(output.dtype), weights) * scaling


def bgmv_expand(inputs: Tensor, lora_b: Tensor, output: Tensor, indices: Tensor, add_inputs: bool = True) -> None:
    """output[rows] += inputs[rows] B^T, or = where not `add_inputs`; B is [slots, (1,) out, rank].

    Rows without an adapter stay as they are. Output and B may be padded differently: what both have is used.
    """
    width = min(lora_b.shape[-2], output.shape[1])
    bgmv_expand_slice(inputs, lora_b, output, indices[: output.shape[0]], 0, width, add_inputs)


def bgmv_expand_slice(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    indices: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """The same into the columns `slice_offset` to `slice_offset + slice_size` of the output."""
    target = output[:, slice_offset : slice_offset + slice_size]
    for slot, rows in groups(indices):
        weights = _matrix(lora_b, slot)[:slice_size].to(output.dtype)
        made = linear(inputs[rows].to(output.dtype), weights)
        target[rows] = target[rows] + made if add_inputs else made


def sgmv_shrink(
    inputs: Tensor,
    lora_a: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    indices: Tensor,
    batches: int,
    max_length: int,
    tokens: int,
    scaling: float,
) -> None:
    """bgmv_shrink for runs of rows: `indices` [runs] are the slots, `lengths` [runs] the rows of each."""
    bgmv_shrink(inputs, lora_a, output, torch.repeat_interleave(indices, lengths), scaling)


def sgmv_expand(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    indices: Tensor,
    batches: int,
    max_length: int,
    tokens: int,
    add_inputs: bool = False,
) -> None:
    """bgmv_expand for runs of rows."""
    bgmv_expand(inputs, lora_b, output, torch.repeat_interleave(indices, lengths), add_inputs)


def sgmv_expand_slice(
    inputs: Tensor,
    lora_b: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    indices: Tensor,
    batches: int,
    max_length: int,
    tokens: int,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = False,
) -> None:
    """bgmv_expand_slice for runs of rows."""
    exploded = torch.repeat_interleave(indices, lengths)
    bgmv_expand_slice(inputs, lora_b, output, exploded, slice_offset, slice_size, add_inputs)


def _matrix(stacked: Tensor, slot: int) -> Tensor:
    """One adapter's matrix out of [slots, out, in] or [slots, 1, out, in]."""
    return stacked[slot].reshape(stacked.shape[-2:])
