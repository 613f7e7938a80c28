"""A vLLM plugin: the log-probability of the drawn token alone, on the CPU, without a table of them all.

Why: confidence reads one number per token, and callers mostly ask for no more. For it vLLM 0.32 makes the
log-softmax of every row over the whole vocabulary, and then counts in a second pass how many tokens were likelier
than the drawn one, a rank which no chat answer carries (LOG.md, "What log-probabilities cost").

What: where nobody in the batch asks for alternatives, the tokens are drawn as they are without log-probabilities.
Then each row's is taken from a log-softmax of a few rows at a time, which stays in the processor's cache. Ranks
read 0 then, for whatever else runs vLLM in this environment too (`VLLM_PLUGINS` chooses). It changes the sampler of
vLLM's first model runner, the one that serves CPUs without Triton.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

ROWS = 4  # at once: with 152,000 tokens 2.4 MB in float32


def register() -> None:
    """Entry point `vllm.general_plugins`. Called in each of vLLM's processes; does nothing on a GPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.v1.outputs import LogprobsTensors
    from vllm.v1.sample.sampler import Sampler

    replace_sampler(Sampler, LogprobsTensors)


def own_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log P(token) of each row, nats, shape (rows, 1), float32; logits (rows, vocabulary), tokens (rows, 1) int64."""
    parts = range(0, logits.shape[0], ROWS)
    made = [
        logits[at : at + ROWS].log_softmax(dim=-1, dtype=torch.float32).gather(-1, tokens[at : at + ROWS])
        for at in parts
    ]
    return torch.cat(made)


def replace_sampler(sampler: Any, tensors: Any) -> None:
    """Let `sampler` (vLLM's class) take the short way where it is enough; the same class twice stays as it is.

    `tensors` is vLLM's LogprobsTensors: token ids and log-probabilities (rows, 1), and ranks (rows,).
    """
    if hasattr(sampler, "secondnature_whole"):
        return
    whole = sampler.secondnature_whole = sampler.forward

    def forward(self: Any, logits: Tensor, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
        short = (
            sampling_metadata.max_num_logprobs == 0
            and not sampling_metadata.logprob_token_ids
            and self.logprobs_mode == "raw_logprobs"
            and not (args or kwargs)
            and logits.dtype != torch.float32  # these are changed in place while a token is drawn
        )
        if not short:
            return whole(self, logits, sampling_metadata, *args, **kwargs)
        drawn = whole(self, logits, replace(sampling_metadata, max_num_logprobs=None))
        tokens = drawn.sampled_token_ids.long()
        ranks = torch.zeros(len(tokens), dtype=torch.int64)
        drawn.logprobs_tensors = tensors(drawn.sampled_token_ids, own_logprobs(logits, tokens), ranks)
        return drawn

    sampler.forward = forward
