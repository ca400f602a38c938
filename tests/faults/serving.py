"""Situations of a server that is killed under load.

What was answered is known after the restart, with the same rewards, once, and judged once;
accepted jobs end; single completions find their group.
"""

import random
import threading
import time

import dumps
from clients import JUDGED, metric_of
from program import Server, as_json, parallel
from sockets import Gone, Http1

RULE = '[reward.judge]\nkind = "rule"\n'
SERVE = """[serve]
timeout_s = 60
collect_s = 60
keep_s = 3600
dump_every = 32
dump_every_s = 2
"""
N_CLIENTS = 6


def group(at):
    completions = [f"{at} and {member}: {at + member}" for member in range(4)]
    return {"prompt": f"Group {at}?", "completions": completions, "answer": str(at)}


def until_answered(server, method, path, body=None, headers=None, wanted=(200,), patience_s=90):
    """Sends a request until a server answers it, over kills and restarts."""
    deadline = time.monotonic() + patience_s
    last = "no server"
    while time.monotonic() < deadline:
        try:
            request = Http1(server.port, method, path, body, headers, timeout_s=30)
            status, data = request.answer()
            if status in wanted:
                return status, as_json(data)
            last = f"{status} {data[:200]}"
        except (OSError, Gone) as error:
            last = str(error)
        time.sleep(0.02)
    raise RuntimeError(f"no answer from {path}: {last}")


class Killer(threading.Thread):
    """Kills a server at random moments under load, and starts it again each time."""

    def __init__(self, server, draw, n_kills, tally):
        super().__init__(daemon=True)
        self.server, self.draw, self.n_kills, self.tally = server, draw, n_kills, tally
        self.failed = None

    def run(self):
        try:
            for _ in range(self.n_kills):
                time.sleep(self.draw.uniform(0.1, 1.2))
                self.server.kill()
                self.tally.trial()
                self.server.start()
        except Exception as error:
            self.failed = error

    def finish(self):
        self.join()
        if self.failed:
            raise self.failed


def load_while(killer, work):
    """Lets clients work on numbers, one after the other, until the last kill is over."""
    numbers = iter(range(1 << 30))
    killer.start()

    def items():
        while killer.is_alive():
            yield next(numbers)

    parallel(work, items(), N_CLIENTS)
    killer.finish()


def whole_groups(tally, program, seed, n_kills):
    """`POST /v1/score_group`."""
    dump = program.folder / "dump-groups"
    config = program.config("groups", RULE + SERVE)
    answered = {}
    with Server(program, config, f"serve.dump={dump}") as server:

        def ask(at):
            _, answer = until_answered(server, "POST", "/v1/score_group", group(at))
            answered[at] = answer["rewards"]

        draw = random.Random(f"{seed} groups")
        load_while(Killer(server, draw, n_kills, tally), ask)
        ask_again(server, answered, draw, tally)
        tally.check(server.stop() == 0, "lost", "the server did not end well")
    check_dump(dump, {f"Group {at}?": rewards for at, rewards in answered.items()}, tally)


def ask_again(server, answered, draw, tally):
    """Asks for groups once more: the same rewards, and the judge has nothing to do."""
    judged = metric_of(server, JUDGED)
    for at in draw.sample(sorted(answered), min(100, len(answered))):
        _, answer = until_answered(server, "POST", "/v1/score_group", group(at))
        same = answer["rewards"] == answered[at]
        tally.check(same, "lost", f"group {at} has other rewards after the kill")
    anew = int(metric_of(server, JUDGED) - judged)
    if anew:
        tally.count("invented", f"{anew} groups were judged anew", anew)


def check_dump(dump, answered, tally):
    """Every answered group is in the dump, once, with the rewards of its answer."""
    rows = dumps.sets(dump, tally)
    dumps.check_evidence(rows, tally)
    by_prompt = dumps.groups(rows)
    for prompt, rewards in answered.items():
        found = by_prompt.pop(prompt, [])
        if tally.check(found, "lost", f"{prompt} is not in the dump"):
            tally.check(len(found) == 1, "invented", f"{prompt} is there {len(found)} times")
            same = sorted(map(str, rewards)) == sorted(str(reward) for _, reward in found[0])
            tally.check(same, "unreadable", f"{prompt}: {found[0]}, answered {rewards}")
    for prompt, found in by_prompt.items():
        # judged before a kill, and answered to nobody: its client had asked for it
        tally.check(len(found) == 1, "invented", f"{prompt} is there {len(found)} times")


def jobs(tally, program, seed, n_kills):
    """`POST /v1/jobs`: an accepted job ends, whatever happens to the server."""
    dump = program.folder / "dump-jobs"
    config = program.config("jobs", RULE + SERVE)
    accepted = {}
    with Server(program, config, f"serve.dump={dump}") as server:

        def ask(at):
            _, job = until_answered(server, "POST", "/v1/jobs", group(at), wanted=(200, 202))
            accepted[at] = job["job_id"]

        load_while(Killer(server, random.Random(f"{seed} jobs"), n_kills, tally), ask)
        rewards = {}
        for at, job in accepted.items():
            try:
                rewards[f"Group {at}?"] = rewards_of_job(server, job)
            except (RuntimeError, KeyError, TypeError) as error:
                tally.count("lost", f"job {at}: {error}")
        tally.check(server.stop() == 0, "lost", "the server did not end well")
    check_dump(dump, rewards, tally)


def rewards_of_job(server, job):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status, data = Http1(server.port, "GET", f"/v1/jobs/{job}").answer()
        answer = as_json(data)
        if status != 200:
            raise RuntimeError(f"{status} {data[:160]}")
        if answer["status"] == "done":
            return answer["result"]["rewards"]
        if answer["status"] not in ("queued", "running"):
            raise RuntimeError(f"{answer}")
        time.sleep(0.02)
    raise RuntimeError("it does not end")


def single_completions(tally, program, seed, n_kills):
    """`POST /remote_rm`, one completion a request, with an id that stays over retries."""
    dump = program.folder / "dump-singles"
    config = program.config("singles", RULE + SERVE + "group_size = 4\n")
    rewards = {}
    with Server(program, config, f"serve.dump={dump}") as server:

        def ask(at):
            body = group(at)
            got = [None] * 4

            def member(number):
                said = body["completions"][number]
                sent = {"prompt": body["prompt"], "response": said, "label": body["answer"]}
                id_ = {"x-request-id": f"{at}-{number}"}
                _, got[number] = until_answered(server, "POST", "/remote_rm", sent, id_)

            parallel(member, range(4), 4)
            rewards[body["prompt"]] = got

        load_while(Killer(server, random.Random(f"{seed} singles"), n_kills, tally), ask)
        health = until_answered(server, "GET", "/health")[1]
        none_open = health["open_cohorts"] == 0
        tally.check(none_open, "invented", f"{health['open_cohorts']} groups wait for nobody")
        tally.check(server.stop() == 0, "lost", "the server did not end well")
    check_dump(dump, rewards, tally)
