"""Tables, plots and pages from `record.json` files and nothing else.

report("recipes/results/sparsity", "recipes/results/sparsity", "recipes/RESULTS.md")
"""

from asr.report.build import report
from asr.report.comparison import EqualSizeComparison, comparison
from asr.report.records import read_record, read_records, write_record
from asr.report.schema import RunRecord
from asr.report.tables import print_table

__all__ = [
    "EqualSizeComparison",
    "RunRecord",
    "comparison",
    "print_table",
    "read_record",
    "read_records",
    "report",
    "write_record",
]
