"""Tables, plots and pages from `record.json` files and nothing else.

report("recipes/results/sparsity", "recipes/results/sparsity", "recipes/RESULTS.md")
"""

from asr.report.build import report
from asr.report.comparison import Comparison, comparison
from asr.report.records import read_record, read_records, write_record
from asr.report.schema import Record
from asr.report.terminal import print_table

__all__ = [
    "Comparison",
    "Record",
    "comparison",
    "print_table",
    "read_record",
    "read_records",
    "report",
    "write_record",
]
