"""Situations of a judge that is dead, broken or lies: a reward has votes behind it, or is none.

A request that gets no reward gets a reason, and the same group is judged once the judge is well.
"""

import time

import liar
from program import Server, as_json, parallel
from sockets import Http1

GROUP = 4

# Number of judges, each with a server, that are played at once.
N_AT_ONCE = 4


def group(name, size=GROUP):
    """A group whose members have different qualities, the best one in the middle."""
    qualities = [(at * 7 + 3) % 10 for at in range(size)]
    completions = [f"I answer with quality {quality}." for quality in qualities]
    return {"prompt": f"Which one? ({name})", "completions": completions, "traces": True}


def ask(server, body, timeout_s=90):
    status, data = Http1(server.port, "POST", "/v1/score_group", body, timeout_s=timeout_s).answer()
    return status, as_json(data)


def check_rewards(answer, body, tally, name):
    """Counts rewards without a valid vote, and votes that are not what the judge said."""
    said = body["completions"]
    voted = set()
    for vote in answer.get("traces") or []:
        first, second = vote["shown_first"], vote["shown_second"]
        if vote["verdict"] == "invalid":
            continue
        voted |= {first, second}
        is_first = liar.quality(said[first]) > liar.quality(said[second])
        wanted = ("first", "a", str(first)) if is_first else ("second", "b", str(second))
        given = str(vote["verdict"])
        tally.check(given in wanted, "invented", f"{name}: a vote for {given} of {first}, {second}")
    for member, reward in enumerate(answer.get("rewards", [])):
        if reward is not None and member not in voted:
            tally.count("invented", f"{name}: member {member} has {reward} without a vote")


def check_order(answer, body, tally, name):
    """All members have rewards, and the best and the worst theirs."""
    rewards = answer["rewards"]
    if not tally.check(None not in rewards, "lost", f"{name}: rewards {rewards}"):
        return
    qualities = [liar.quality(text) for text in body["completions"]]
    best, worst = qualities.index(max(qualities)), qualities.index(min(qualities))
    right = rewards[best] == max(rewards) and rewards[worst] == min(rewards)
    tally.check(right, "invented", f"{name}: rewards {rewards} of qualities {qualities}")


def honest(tally, program):
    """Answers in every form that real servers give are votes."""

    def form(name):
        judge = liar.Liar(liar.HONEST[name])
        text = judge.config(tries=1) + "[serve]\ntimeout_s = 60\n"
        with Server(program, program.config(f"honest {name}", text)) as server:
            for trial in range(3):
                tally.trial()
                body = group(f"{name} {trial}") | {"tournament": "round_robin"}
                status, answer = ask(server, body)
                if not tally.check(status == 200, "lost", f"{name}: {status} {answer}"):
                    break
                check_rewards(answer, body, tally, name)
                check_order(answer, body, tally, name)
        judge.close()

    parallel(form, liar.HONEST, N_AT_ONCE)


def lying(tally, program):
    """No vote, no number, but a reason; and the group is judged once the judge is well."""

    def manner(name):
        judge = liar.Liar(liar.LYING[name])
        text = judge.config(tries=1) + "[serve]\ntimeout_s = 60\n"
        with Server(program, program.config(f"lying {name}", text)) as server:
            tally.trial()
            body = group(name, 3)
            status, answer = ask(server, body)
            if status == 200:
                check_rewards(answer, body, tally, name)
                scored = "scored" in answer["statuses"]
                tally.check(not scored, "invented", f"{name}: {answer['statuses']}")
            else:
                has_reason = isinstance(answer, dict) and answer.get("error")
                tally.check(has_reason, "lost", f"{name}: {status} without a reason")
            used = server.resident_mib()
            tally.check(used < 1024, "lost", f"{name}: {used:.0f} MiB of memory")
            judge.answer_as(liar.plain)
            if status != 200:
                recover(server, body, tally, name)
        judge.close()

    parallel(manner, liar.LYING, N_AT_ONCE)


def recover(server, body, tally, name):
    """The judge is well again: the group that had no reward gets one, soon."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status, answer = ask(server, body)
        if status == 200:
            check_rewards(answer, body, tally, name)
            check_order(answer, body, tally, f"{name}, once well")
            return
        time.sleep(0.5)
    tally.count("lost", f"{name}, once well: {status} {answer}")


def refused(tally, program):
    """A judge that is not there when the server starts, comes, goes and comes back."""
    judge = liar.Liar()
    config = program.config("refused", judge.config(tries=1) + "[serve]\ntimeout_s = 60\n")
    judge.close()
    with Server(program, config) as server:
        for round_ in range(2):
            tally.trial()
            body = group(f"refused {round_}")
            status, answer = ask(server, body)
            no_number = status != 200 or not any(answer["rewards"])
            tally.check(no_number, "invented", f"refused: {answer}")
            judge.begin(liar.plain)
            recover(server, body, tally, f"refused {round_}")
            judge.close()


def mixed(tally, program, seed):
    """A third of the calls fails, each in another manner: rewards come of true votes alone."""
    judge = liar.Liar()
    judge.answer_mixed(0.33, seed)
    config = program.config("mixed", judge.config() + "[serve]\ntimeout_s = 60\n")
    with Server(program, config) as server:

        def one(trial):
            tally.trial()
            body = group(f"mixed {trial}", 6)
            status, answer = ask(server, body)
            if status == 200:
                check_rewards(answer, body, tally, "mixed")
            else:
                has_reason = isinstance(answer, dict) and answer.get("error")
                tally.check(has_reason, "lost", f"mixed: {status} without a reason")

        parallel(one, range(24), 8)
    judge.close()
