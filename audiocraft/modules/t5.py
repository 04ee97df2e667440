"""Frozen T5 encoders (arXiv 1910.10683): which there are, and how one is read without its code or a long wait."""

import typing as tp
from functools import lru_cache
from pathlib import Path

from ..errors import UserError
from ..utils.files import read_json
from ..utils.hub import is_reachable

# Widths of the encoders known by name, so that a model can be built before its T5 is there.
T5_WIDTHS = {
    "t5-small": 512,
    "t5-base": 768,
    "t5-large": 1024,
    "t5-3b": 1024,
    "t5-11b": 1024,
    "google/flan-t5-small": 512,
    "google/flan-t5-base": 768,
    "google/flan-t5-large": 1024,
    "google/flan-t5-xl": 2048,
    "google/flan-t5-xxl": 4096,
}


def t5_width(name: str) -> int:
    """Width of the hidden states of T5 `name`, a known name or a folder.

    Raises:
        UserError: it is neither.
    """
    if name in T5_WIDTHS:
        return T5_WIDTHS[name]
    config = Path(name) / "config.json"
    try:
        width = read_json(config)["d_model"]
        if type(width) is not int or not 0 < width < 1 << 31:
            raise ValueError(width)
        return width
    except (OSError, ValueError, KeyError, TypeError):
        known = ", ".join(T5_WIDTHS)
        raise UserError(f"no T5 in {name}: give a folder with its config.json, or one of {known}") from None


@lru_cache(maxsize=1)  # shared by all copies of a model (EMA, best state); the encoder is frozen
def load_t5(name: str) -> tuple[tp.Any, tp.Any]:
    """Tokenizer and encoder of T5 `name`, from the cache, a folder or the hub.

    Raises:
        UserError: no transformers, or no such T5.
    """
    try:
        return _read_t5(name, local_files_only=True)
    except UserError:
        # Asked first: the library itself would try again for a minute before it says that nobody answers.
        if Path(name).exists() or not is_reachable():
            raise
    return _read_t5(name, local_files_only=False)


def _read_t5(name: str, local_files_only: bool) -> tuple[tp.Any, tp.Any]:
    try:
        import transformers
        from transformers.utils import logging
    except ImportError:
        raise UserError("text needs transformers; run: pip install transformers sentencepiece") from None
    bar_was_on, told = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # No code comes with the files: neither from the repository, nor from a pickle.
    safely: dict[str, tp.Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    try:
        tokenizer: tp.Any = transformers.AutoTokenizer.from_pretrained(name, **safely)
        safely |= {"weights_only": True, "output_loading_info": True}
        encoder, report = tp.cast(tp.Any, transformers.T5EncoderModel).from_pretrained(name, **safely)
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"its weights lack {missing[0]}")
        if len(tokenizer) <= len(tokenizer.all_special_tokens) + 1:  # the library makes up what it does not find
            raise ValueError("its tokenizer, spiece.model or tokenizer.json, is missing")
    except Exception as error:  # readers of foreign files raise whatever they stumble over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot load the text encoder {name} ({reason}); name a local folder under conditioners.*.t5.name, "
            "or go without texts"
        ) from error
    finally:
        logging.set_verbosity(told)
        if bar_was_on:
            logging.enable_progress_bar()
    return tokenizer, encoder.float().eval().requires_grad_(False)
