"""One folder per submission. The folder is the registry: a sixth submission is a sixth folder."""
