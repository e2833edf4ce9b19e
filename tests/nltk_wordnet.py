"""Opens WordNet's files with nltk, so that tests and benches can hold lib.wordnet against it."""

from pathlib import Path

from lib.wordnet import FILES, WordNet

LEXICOGRAPHER_FILES = 45


def open_with_nltk(wordnet: WordNet, home: Path) -> object:
    """nltk's `corpus.wordnet` over a copy of the files below `home`. Once per process: nltk opens its corpus once."""
    import nltk.data
    from nltk.corpus import wordnet as corpus

    folder = home / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(wordnet.read(name))
    # Two files that nltk opens, METEOR does not need and Debian leaves out: names of the source files, keys of the senses.
    (folder / "lexnames").write_text("".join(f"{number:02d}\tname{number}\t1\n" for number in range(LEXICOGRAPHER_FILES)))
    (folder / "index.sense").write_text("")
    nltk.data.path.insert(0, str(home))
    corpus.ensure_loaded()
    return corpus
