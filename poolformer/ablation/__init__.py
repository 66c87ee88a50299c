"""Rows of the paper's ablation: trained, compared, drawn."""
