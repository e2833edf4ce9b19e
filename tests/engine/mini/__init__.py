"""mini, a submission for the engine's tests: numbers are drawn, a running mean is "trained" on them step by step, and scored."""
