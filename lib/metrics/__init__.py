"""Score functions: pure, from arrays and lists to numbers; no file, no global, no device."""
