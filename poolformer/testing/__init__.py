"""Tests of a token mixer, for anybody's: `check_mixer` and the table of its rules."""

from .contract import DIMS, RULES, Rule, check_mixer

__all__ = ["DIMS", "RULES", "Rule", "check_mixer"]
