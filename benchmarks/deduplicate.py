"""Near-duplicate detection: Fucina's stage beside datasketch, on the same planted duplicates in the same run.

    python benchmarks/deduplicate.py [--rows 20000]

Prints a table and one JSON line: seconds, recall and precision against the exact Jaccard similarity of the planted
pairs, and the ratio of the times. Texts are synthetic (Zipf-distributed made-up words), so speeds carry over to real
text only roughly, and precision here says nothing about what a reader would call a duplicate.
"""

import argparse
import json
import random
import time

import polars as pl
from datasketch import MinHash, MinHashLSH

from fucina.factory.hashing import content_id
from fucina.factory.stage import Context
from fucina.pipelines.stages.deduplicate import Deduplicate, normalise

THRESHOLD, NGRAM, PERMUTATIONS = 0.7, 3, 128


def corpus(rows: int, seed: int = 17) -> tuple[list[str], dict[int, int]]:
    """Texts of 60 to 150 words; every fourth is an edited copy of the one three before it. Copy → original."""
    rng = random.Random(seed)
    words = ["".join(rng.choice("aeioubcdglmnprstvz") for _ in range(rng.randint(3, 9))) for _ in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    texts: list[str] = []
    copies: dict[int, int] = {}
    for index in range(rows):
        if index % 4 == 3:
            copy = texts[index - 3].split()
            for _ in range(rng.randint(1, 8)):
                copy[rng.randrange(len(copy))] = rng.choice(words)
            texts.append(" ".join(copy))
            copies[index] = index - 3
        else:
            texts.append(" ".join(rng.choices(words, weights, k=rng.randint(60, 150))))
    return texts, copies


def grams(text: str) -> set[str]:
    """Word n-grams, as the stage makes them."""
    words = normalise(text).split()
    return {" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def ours(texts: list[str]) -> tuple[float, set[int]]:
    """Seconds, and the rows that stand in a group of duplicates but for its survivor."""
    ids = [content_id([index, text]) for index, text in enumerate(texts)]
    frame = pl.DataFrame({"prompt_id": ids, "prompt": texts})
    started = time.perf_counter()
    outcome = Deduplicate(threshold=THRESHOLD, ngram=NGRAM, permutations=PERMUTATIONS).run(frame, Context())
    seconds = time.perf_counter() - started
    place = {row: index for index, row in enumerate(ids)}
    return seconds, {place[row] for row in outcome.dropped["prompt_id"].to_list()}


def theirs(texts: list[str]) -> tuple[float, set[int]]:
    """The same with datasketch: seconds, and rows with an earlier candidate over the threshold."""
    started = time.perf_counter()
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    found: set[int] = set()
    for row, text in enumerate(texts):
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([gram.encode() for gram in grams(text)])
        if index.query(sketch):
            found.add(row)
        index.insert(row, sketch)
    return time.perf_counter() - started, found


def quality(found: set[int], copies: dict[int, int], truth: set[int]) -> tuple[float, float]:
    """Recall over pairs that are duplicates in truth; precision over what was found. A pair is named by its copy."""
    by_copy = {copy if copy in found else original: copy for copy, original in copies.items()}
    pairs = {by_copy[row] for row in found if row in by_copy}
    return len(pairs & truth) / len(truth), len(pairs & truth) / len(found)


def main() -> None:
    """Run both, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    texts, copies = corpus(rows)
    truth = {
        copy
        for copy, original in copies.items()
        if len(grams(texts[copy]) & grams(texts[original])) / len(grams(texts[copy]) | grams(texts[original]))
        >= THRESHOLD
    }
    results = {}
    for name, run in (("fucina", ours), ("datasketch", theirs)):
        seconds, found = run(texts)
        recall, precision = quality(found, copies, truth)
        results[name] = {"seconds": round(seconds, 2), "recall": round(recall, 4), "precision": round(precision, 4)}
        print(
            f"{name:<12} {seconds:8.2f} s  {rows / seconds:10,.0f} rows/s  recall {recall:.4f}  precision {precision:.4f}"
        )
    ratio = results["datasketch"]["seconds"] / results["fucina"]["seconds"]
    print(f"{len(truth)} planted pairs at Jaccard >= {THRESHOLD}; datasketch takes {ratio:.1f} times as long")
    print(
        json.dumps({"benchmark": "deduplicate", "rows": rows, "pairs": len(truth), "ratio": round(ratio, 2), **results})
    )


if __name__ == "__main__":
    main()
