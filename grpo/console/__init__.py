"""What a person sees of a run: a live view or plain lines, messages, and the closing table."""

from grpo.console.closing_table import results_table
from grpo.console.console import Console

__all__ = ["Console", "results_table"]
