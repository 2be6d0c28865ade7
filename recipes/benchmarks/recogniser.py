"""Whole recognisers on the same recordings: word errors, time, memory, bytes; PocketSphinx too.

    python recipes/benchmarks/recogniser.py DATA -o recipes/results/recogniser/NAME.json \\
        --network 'dense=dense.asr' --network 'sparse=sparse.asr' --lm books.lm --pocketsphinx

DATA is a folder in LibriSpeech's layout with the subsets of `--dev` and `--test`, and with
`utterances.tsv` (columns subset, utterance, age) for the sets of `--by-age`: these are shown whole
and also split into adults and children (under 13). Every network decodes each test set once
greedily and, with `--lm`, once by beam search; weight and word bonus are those with the lowest WER
on the dev sets together, for each network by itself, unless given. PocketSphinx 5.1.1 (extra
`bench`) runs with its defaults and the model in its wheel.

Each recogniser, decoder and set is a process of its own with one thread, which hears one file
after another. A network with fewer zeros than half runs in the engine, torch's or ours, that took
less time for some dev recordings; others in ours. What a process found is kept below ASR_RUNS (or
`--work`), so a run that was stopped goes on, and a network that is added later decodes alone; what
was measured in another run, or with other code, is marked in the record. `--again` measures anew.

The record (`asr report recipes/results/recogniser -o OUT --results recipes/RESULTS.md` shows it):

    rows         one a recogniser and decoder:
      network      label as given, or `PocketSphinx`
      decoder      `greedy`, `beam with LM`; of PocketSphinx `its own`
      wer SET      {wer, low, high, words, utterances, ...}, fractions with their 95 % interval
      cer SET      {value, low, high}, fractions; SET is a test set, or `SET adults`, `SET children`
      nonzeros, parameters       of the network; null for PocketSphinx
      bytes        of all model files together; model_bytes (with a dictionary), lm_bytes (0: none)
      rtf          processor seconds / audio seconds over all sets; wall_rtf by the clock
      load_seconds imports and opening files, the median over sets; not in rtf
      peak_bytes   largest resident memory of any of its processes
      engine       what ran it
    tables       how rows are shown, and the `Differences`, whose rows are:
      network, decoder, less (who is taken off: label, or `PocketSphinx`)
      change SET   {wer, low, high, p, relative}: WER of network - WER of `less`, by a paired
                   bootstrap; relative is that difference / WER of `less`
      time_ratio   rtf of network / rtf of `less`
      same_run     whether both were timed in one run on one machine
    details      limit (utterances of each set; null: all of them), sets, networks (file, engines
                 tried, tuning), lm, pocketsphinx, parts (each process: set, day, seconds, ...)
"""
