"""Figures for a paper: curves of runs with the spread of their seeds, in colours and files that all figures share."""
