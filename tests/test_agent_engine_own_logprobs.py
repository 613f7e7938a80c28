"""The short way to a drawn token's log-probability against the long one, on vLLM's own sampler's records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agent.engine import own_logprobs as ops

WORDS = 50


@given(st.integers(1, 13), st.sampled_from([torch.bfloat16, torch.float32]), st.integers(0, 99))
@settings(deadline=None)
def test_each_rows_own_log_probability(rows: int, dtype: torch.dtype, seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, WORDS, generator=chance) * 9).to(dtype)
    tokens = torch.randint(0, WORDS, (rows, 1), generator=chance)
    found = ops.own_logprobs(logits, tokens)
    wanted = logits.double().log_softmax(-1).gather(-1, tokens)
    assert found.shape == (rows, 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@dataclass
class Metadata:
    """The part of vLLM's SamplingMetadata that decides."""

    max_num_logprobs: int | None
    logprob_token_ids: dict[int, list[int]] | None = None


class Tensors(NamedTuple):
    """vLLM's LogprobsTensors."""

    logprob_token_ids: Tensor
    logprobs: Tensor
    selected_token_ranks: Tensor


@dataclass
class Output:
    """vLLM's SamplerOutput."""

    sampled_token_ids: Tensor
    logprobs_tensors: Any


def sampler() -> Any:
    """A greedy sampler that notes what it was asked for, changed as the plugin changes vLLM's."""

    @dataclass
    class Greedy:
        logprobs_mode: str = "raw_logprobs"
        asked: list[int | None] = field(default_factory=list)

        def forward(self, logits: Tensor, sampling_metadata: Metadata, predict_bonus_token: bool = False) -> Output:
            self.asked.append(sampling_metadata.max_num_logprobs)
            return Output(logits.argmax(-1, keepdim=True).to(torch.int32), "long")

    ops.replace_sampler(Greedy, Tensors)
    ops.replace_sampler(Greedy, Tensors)
    return Greedy


LOGITS = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], dtype=torch.bfloat16)


def test_where_nobody_asks_for_alternatives_no_table_is_made() -> None:
    one = sampler()()
    said = one.forward(logits=LOGITS, sampling_metadata=Metadata(0))
    assert one.asked == [None]
    assert said.logprobs_tensors.logprob_token_ids.tolist() == [[1], [0]]
    assert said.logprobs_tensors.logprobs.flatten().tolist() == pytest.approx([-0.4076, -0.0949], abs=1e-3)
    assert said.logprobs_tensors.selected_token_ranks.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("mode", "logits", "metadata", "more"),
    [
        ("raw_logprobs", LOGITS, Metadata(None), {}),
        ("raw_logprobs", LOGITS, Metadata(2), {}),
        ("raw_logprobs", LOGITS, Metadata(-1), {}),
        ("raw_logprobs", LOGITS, Metadata(0, {0: [1]}), {}),
        ("processed_logprobs", LOGITS, Metadata(0), {}),
        ("raw_logprobs", LOGITS.float(), Metadata(0), {}),
        ("raw_logprobs", LOGITS, Metadata(0), {"predict_bonus_token": True}),
    ],
)
def test_all_else_is_left_to_vllm(mode: str, logits: Tensor, metadata: Metadata, more: dict[str, bool]) -> None:
    one = sampler()(mode)
    assert one.forward(logits, metadata, **more).logprobs_tensors == "long"
    assert one.asked == [metadata.max_num_logprobs]
