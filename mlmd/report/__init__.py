"""Run folders -> one HTML page that needs nothing else.

`page` gathers what there is and fills the template; `methods`, `course`, `structure`, `results` and `origin` say it;
`several` puts runs beside each other.
"""

from mlmd.report.page import REPORT, write_report
from mlmd.report.several import write_report_of

__all__ = ["REPORT", "write_report", "write_report_of"]
