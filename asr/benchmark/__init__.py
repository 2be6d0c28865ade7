"""A model file, dense against sparse on this machine: what `asr benchmark FILE` needs."""
