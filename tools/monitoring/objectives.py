"""Service level objectives, from which rules, alerts and panels are made."""

from __future__ import annotations

AVAILABILITY = 0.999
"""Share of calls that end without a fault of the server."""
BUDGET = 0.001
"""1 − ``AVAILABILITY``, without its rounding."""
SLOW_SECONDS = "1.0"
"""A call that takes longer is slow; a bucket of ``miclip_rpc_duration_seconds``."""
SLOW_SHARE = 0.01
"""Share of calls that may be slow."""
FAST_BURN, SLOW_BURN = 14.4, 6.0
"""Multiples of the speed that spends a 30-day budget in 30 days; the fast one spends 2 % of it in an hour."""
RECALL = 0.95
"""Share of an exhaustive search's results that an index should find."""
SIMILARITY = 0.5
"""Label similarity below which labels are doubted; in the demo other image styles reach 0.9, noise 0.1."""
