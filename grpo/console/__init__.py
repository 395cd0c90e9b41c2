"""What a person sees of a run: a live view or plain lines, messages, and the closing table."""

from grpo.console.closing_table import results_table
from grpo.console.console import Console
from grpo.console.marks import printable

__all__ = ["Console", "printable", "results_table"]
