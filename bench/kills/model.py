"""A base model of a few hundred KiB with random weights, so that a night trains in seconds: `python -m
bench.kills.model FOLDER`, a process of its own because it imports torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def tiny_tokenizer() -> Any:
    """One token per printable character; turns end with </s>."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(i) for i in range(32, 127)] + ["\n"]
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", "<unk>", *letters])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    fast: Any = PreTrainedTokenizerFast
    made = fast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")
    made.chat_template = TEMPLATE
    return made


def tiny_model(folder: Path) -> Path:
    """Write a random two-layer Qwen2 with its tokenizer. Returns the folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(7)
    letters = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(letters), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, eos_token_id=1,
    )  # fmt: skip
    network: Any = Qwen2ForCausalLM
    network(config).save_pretrained(str(folder))
    letters.save_pretrained(str(folder))
    return folder


if __name__ == "__main__":
    tiny_model(Path(sys.argv[1]))
