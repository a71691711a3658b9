"""How much of a caption a base reads. Text encoders take a fixed number of tokens; what lies beyond is cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ..attributes import captions
from ..config import Config


def tokenizers(pipeline: Any) -> list[Any]:
    """The pipeline's tokenizers: one, or two of SDXL."""
    return [part for part in pipeline.components.values() if isinstance(part, PreTrainedTokenizerBase)]


def rule(tokenizer: Any) -> str:
    """All that says into which tokens a tokenizer cuts a text: the key of what is encoded with it."""
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: part for name, part in tree.items() if name not in ("truncation", "padding")}  # set anew by each call
    return json.dumps([kept, tokenizer.model_max_length])


def tokens(pipeline: Any) -> int:
    """How many tokens of a text every text encoder reads, the marks of its beginning and end among them."""
    return min(part.model_max_length for part in tokenizers(pipeline))


def length(pipeline: Any, text: str) -> int:
    """How many tokens a text has, the most of any tokenizer."""
    return max(len(part(text, truncation=False, verbose=False).input_ids) for part in tokenizers(pipeline))


def reads(pipeline: Any, text: str) -> str:
    """The words of a text from the first on that lie within the limit; the text itself where it is short enough."""
    limit = tokens(pipeline)
    if length(pipeline, text) <= limit:
        return text
    words = text.split()
    low, high = 0, len(words)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if length(pipeline, " ".join(words[:middle])) <= limit else (low, middle)
    return " ".join(words[:low])


def tell_cut(pipeline: Any, config: Config, prompts: captions.Prompts, texts: Iterable[str]) -> None:
    """Say which captions are longer than the base reads, what of the first is cut off, and which axes have no effect.

    It says it once, in the main process; nothing where all are short enough.

    Args:
        texts: the captions that the base will be told.
    """
    every = sorted(set(texts))
    long = [text for text in every if length(pipeline, text) > tokens(pipeline)]
    if not long or os.environ.get("RANK", "0") != "0":
        return
    read = reads(pipeline, long[0])
    rest = " ".join(long[0].split()[len(read.split()) :])
    unheard = cut_axes(prompts, config.generate.axes, config.dataset.rare_class, lambda text: reads(pipeline, text))
    effect = f" Without effect in some captions for that: the axis {', '.join(unheard)}." if unheard else ""
    tqdm.write(
        f"warning: {len(long)} of {len(every)} captions are longer than the {tokens(pipeline)} tokens that the base "
        f"'{config.base}' reads. Of the first, '{long[0]}' ({length(pipeline, long[0])} tokens), the end is cut off: "
        f"'{rest}'.{effect} Shorten the captions of the prompts file, or put what matters first."
    )


def cut_axes(prompts: captions.Prompts, axes: list[str], label: str, read: Callable[[str], str]) -> list[str]:
    """The axes of which two values become the same caption, of any template, once it is cut.

    Args:
        axes: as in `captions.grid`.
        read: what is left of a caption.
    """
    first = {name: next(iter(attribute.values)) for name, attribute in prompts.attributes.items()}
    lost = []
    for name in axes or list(prompts.attributes):
        for number in range(len(prompts.captions)):
            full = {captions.describe(prompts, number, label, {**first, name: value})
                    for value in prompts.attributes[name].values}  # fmt: skip
            if len({read(text) for text in full}) < len(full):
                lost.append(name)
                break
    return lost
