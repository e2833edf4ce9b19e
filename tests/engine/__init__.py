"""Tests of the stage engine with real processes, on a submission made for them."""
