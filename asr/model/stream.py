"""Networks on a stream: which ones can carry their state from one piece to the next."""

from asr.features.settings import Frontend
from asr.model.dimensions import Model


def why_not_exact(dimensions: Model, frontend: Frontend) -> str:
    """Why a stream of this network differs from the whole recording, in words; empty: it does not.

    >>> why_not_exact(Model(bidirectional=False), Frontend(normalise="running"))
    ''
    """
    if dimensions.bidirectional:
        return "the network is bidirectional: it needs what follows"
    if frontend.normalise not in ("running", "none"):
        return (
            f"features are normalised over what follows too (frontend.normalise="
            f"{frontend.normalise}; a network trained with running needs only the past)"
        )
    return ""
