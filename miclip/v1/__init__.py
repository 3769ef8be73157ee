"""Generated stubs of ``protos/miclip/v1``; ``make proto`` renews them."""
