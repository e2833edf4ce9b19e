"""Podium's library: what the notebooks call. Importing it imports nothing; every module says in its first line what it is for."""
