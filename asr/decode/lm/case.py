"""A language model in the letters of its network: `the` and THE are one word to a person."""

from collections import Counter
from dataclasses import replace

import numpy as np

from asr.decode.lm.build import hash_vocabulary
from asr.decode.lm.model import BOS, EOS, UNKNOWN, LanguageModel
from asr.errors import AsrError


def in_case_of(tokens: str, lm: LanguageModel, name: str) -> LanguageModel:
    """`lm`, its words spelt in upper or lower case if the tokens of a network have only that case.

    `tokens`: what the network can write, all together. Most models come back as they are: their
    letters are the network's already, or it writes both cases. Raises AsrError, which begins with
    `name`, if two words differ only in their case.
    """
    upper, lower = (any(map(kind, tokens)) for kind in (str.isupper, str.islower))
    if upper == lower:
        return lm
    wanted = str.upper if upper else str.lower
    given = lm.spellings()
    spellings = [word if word in (BOS, EOS, UNKNOWN) else wanted(word) for word in given]
    changed = sum(own != new for own, new in zip(given, spellings, strict=True))
    # A few words in mixed case, such as McDonald, do not decide for the others.
    if changed <= (len(given) - 3) / 2:  # <s>, </s> and <unk> have no case
        return lm
    if len(set(spellings)) < len(spellings):
        first = next(word for word, times in Counter(spellings).items() if times > 1)
        kind = "upper" if upper else "lower"
        raise AsrError(
            f"{name}: has words that differ only in their case, such as {first}, and the network "
            f"writes {kind} case only: make the language model from a text in one case"
        )
    hashes, prefixes, prefix_logs = hash_vocabulary(spellings, lm.logs[: lm.size])
    by_hash = np.argsort(hashes)
    return replace(
        lm,
        hashes=hashes[by_hash],
        hash_words=by_hash.astype(np.uint32),
        prefixes=prefixes,
        prefix_logs=prefix_logs,
        vocabulary=np.frombuffer("".join(f"{w}\n" for w in spellings).encode(), dtype=np.uint8),
    )
