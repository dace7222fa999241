"""What models cost and how searches went: counts, times, tables, pictures."""

from .complexity import Complexity, count_flops, count_parameters
from .costs import Cost, CostTable, compare_costs
from .latency import Latency, environment, latency_of_models, measure_latency
from .memory import MemoryEstimate, estimate_search_memory
from .plots import draw_score_histograms, plot_curve, plot_widths
from .tables import ResultsTable

__all__ = [
    "Complexity",
    "Cost",
    "CostTable",
    "Latency",
    "MemoryEstimate",
    "ResultsTable",
    "compare_costs",
    "count_flops",
    "count_parameters",
    "draw_score_histograms",
    "environment",
    "estimate_search_memory",
    "latency_of_models",
    "measure_latency",
    "plot_curve",
    "plot_widths",
]
