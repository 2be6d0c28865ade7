"""Audio to log-probabilities without torch: numpy and the C library of `asr.sparse`.

`frontend` makes features, `convolution` and `network` run the network of a model file, on the
kernels of `asr.sparse`. `asr.hearing` opens it. Nothing here imports torch.
"""
