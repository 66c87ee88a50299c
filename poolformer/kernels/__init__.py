"""Fused operators, each beside its definition in plain PyTorch, which stays what the network means."""
