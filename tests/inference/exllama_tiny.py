"""A model's directory that ExLlamaV2 accepts, as small as can be: one layer of zeros, and a token for every byte."""

import json
from pathlib import Path
from typing import Any

from tests.inference.exllama_double import TEMPLATE

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = 258  # <|im_end|>
CONTEXT = 8192
SIZE = 256 + len(CONTROL)
HIDDEN, INNER = 64, 128


def tiny_model(folder: Path) -> Path:
    """Writes it to `folder`."""
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": SIZE,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 256,
        "eos_token_id": 256,
        "tie_word_embeddings": False,
    }
    special = {str(256 + n): {"content": token, "special": True} for n, token in enumerate(CONTROL)}
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"eos_token_id": [256, END]})
    _write(
        folder / "tokenizer_config.json",
        {"chat_template": TEMPLATE, "bos_token": CONTROL[0], "eos_token": CONTROL[0], "added_tokens_decoder": special},
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({name: np.zeros(shape, np.float16) for name, shape in _shapes().items()}, folder / "model.safetensors")
    return folder


def _shapes() -> dict[str, tuple[int, ...]]:
    layer = "model.layers.0"
    square = {f"{layer}.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
    wide = {f"{layer}.mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
    norms = {f"{layer}.{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    return {
        "model.embed_tokens.weight": (SIZE, HIDDEN),
        "lm_head.weight": (SIZE, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        f"{layer}.mlp.down_proj.weight": (HIDDEN, INNER),
        **square,
        **wide,
        **norms,
    }


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content))
