"""What `asr lm train`, `convert`, `info` and `tune` do.

    lm_train(texts, output, order, cutoffs, prune, heldout, min_count, normalisation) -> str
    lm_convert(source, output) -> str
    lm_info(path) -> str
    lm_tune(model, manifest, lm, weights, bonuses, beam, unknown_score, threads, output) -> str

Each returns what to print. `output` of `lm_train` and `lm_convert` is ARPA if its name ends in
`.arpa` or `.arpa.gz`, else the binary form.
"""
