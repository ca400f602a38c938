"""The tables of a dump or a run, read by polars: a witness that shares no code with the program."""

import json
import pathlib

import polars

TABLES = ("completions", "rewards", "matches", "votes")


def sets(dump, tally):
    """Rows of the tables of all sets, by table; a file that cannot be read is counted."""
    rows = {name: [] for name in TABLES}
    for folder in sorted(pathlib.Path(dump).glob("set_*")):
        if folder.suffix:
            continue
        for name in TABLES:
            try:
                table = polars.read_parquet(folder / f"{name}.parquet")
                rows[name] += [row | {"set": folder.name} for row in table.to_dicts()]
            except Exception as error:
                tally.count("unreadable", f"{folder.name}/{name}.parquet: {error}")
    for path in pathlib.Path(dump).rglob("*.tmp"):
        tally.count("unreadable", f"{path.name} was left behind")
    return rows


def groups(rows):
    """Completions with rewards by prompt: a list of groups, each from completion to reward."""
    found = {}
    for row in rows["completions"]:
        key = (row["set"], row["group_id"], row["prompt"])
        found.setdefault(key, []).append((row["completion"], row["reward"]))
    by_prompt = {}
    for (_, _, prompt), members in found.items():
        by_prompt.setdefault(prompt, []).append(members)
    return by_prompt


def check_evidence(rows, tally):
    """Every vote belongs to a match of its set, and every reward to a completion."""
    matches = {(row["set"], row["match_id"]) for row in rows["matches"]}
    for row in rows["votes"]:
        known = (row["set"], row["match_id"]) in matches
        tally.check(known, "invented", f"a vote of match {row['match_id']}, which is not there")
    n_completions, n_rewards = len(rows["completions"]), len(rows["rewards"])
    same = n_completions == n_rewards
    tally.check(same, "lost", f"{n_completions} completions and {n_rewards} rewards")


def run_files(folder, differs):
    """Bytes of the files of a run by path, without `differs`; `metrics.jsonl` without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in differs:
            continue
        data = path.read_bytes()
        found[name] = without_times(data) if name == "metrics.jsonl" else data
    return found


def without_times(data):
    """Lines of metrics without what depends on the clock."""
    rows = [json.loads(line) for line in data.decode().splitlines()]
    kept = [{key: row[key] for key in row if not is_of_the_clock(key)} for row in rows]
    return json.dumps(kept).encode()


def is_of_the_clock(key):
    return key.startswith("time/") or key.endswith("_time") or key == "tokens_per_second"


def unreadable_tables(folder):
    """Parquet files of a folder that polars cannot read."""
    broken = []
    for path in folder.rglob("*.parquet"):
        try:
            polars.read_parquet(path)
        except Exception as error:
            broken.append(f"{path.name}: {error}")
    return broken
