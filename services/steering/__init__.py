"""The steering service: policies, their receipts and the kill switch."""
