"""Load on a running server as trainers make it: single completions in random order from 64
clients. One in ten is sent twice, one in twenty is given up and sent again, and one in twenty is
never sent.

    joust serve configs/quickstart.toml serve.port=8000 serve.group_size=8 serve.collect_s=20
    python bench/server/clients.py --url http://127.0.0.1:8000 --groups 80 --size 8

Prints one JSON line. Every whole group must be judged once (by the server's own count), every
answer must belong to its member, and groups with a missing member must end by the policy. Needs the
standard library only.
"""

import argparse
import http.client
import json
import random
import threading
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

WRONG = (10, -10, 1, 20, 2, -1, 30)


def judged(url):
    page = urllib.request.urlopen(url + "/metrics").read().decode()
    return sum(
        float(line.split()[-1])
        for line in page.splitlines()
        if line.startswith("joust_reward_groups_total")
    )


def post(url, body, name, timeout):
    """Status and answer; status 0 if the client gave up."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)
    try:
        connection.request("POST", "/get_reward", json.dumps(body), {"X-Request-Id": name})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except TimeoutError:
        return 0, None
    finally:
        connection.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--groups", type=int, default=80)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    members = [(group, member) for group in range(args.groups) for member in range(args.size)]
    missing = {one for one in members if draw.random() < 0.05}
    whole = {
        group
        for group in range(args.groups)
        if not any((group, member) in missing for member in range(args.size))
    }
    # (member, whether its first request is given up); a member that is sent twice is there twice
    sends = [(one, draw.random() < 0.05) for one in members if one not in missing]
    sends += [(one, False) for one, _ in sends if draw.random() < 0.1]
    draw.shuffle(sends)
    # each request waits for its group, so there are enough clients for all members of open groups
    answers, lock, gate = {}, threading.Lock(), threading.Semaphore(args.clients)

    def send(task):
        (group, member), is_given_up = task
        # each of 80 seeds gives other groups, for the server does not judge a known group again
        a, b = 10 + group, 7 + args.seed % 80
        said = a + b if member == 0 else a + b + WRONG[(member - 1) % len(WRONG)]
        prompt = f"What is {a} + {b}?"
        body = {
            "query": [f"{prompt}The answer is {said}."],
            "prompts": [prompt],
            "labels": [str(a + b)],
        }
        name = f"{args.seed}-{group}-{member}"
        with gate:  # so many begin at once
            if is_given_up:
                post(args.url, body, name, 0.05)
        status, answer = post(args.url, body, name, 120)
        with lock:
            answers.setdefault((group, member), []).append((status, answer))

    before, started = judged(args.url), time.monotonic()
    with ThreadPoolExecutor(len(sends)) as pool:
        list(pool.map(send, sends))
    seconds = time.monotonic() - started
    statuses, unequal, first = {}, 0, 0
    for (group, member), got in answers.items():
        for status, _ in got:
            kind = ("whole" if group in whole else "incomplete", status)
            statuses[kind] = statuses.get(kind, 0) + 1
        unequal += any(answer != got[0][1] for _, answer in got)
    for group in whole:
        rewards = [answers[group, member][0][1]["rewards"][0] for member in range(args.size)]
        first += rewards[0] == max(rewards)
    print(
        json.dumps(
            {
                "requests": len(sends),
                "seconds": round(seconds, 2),
                "whole_groups": len(whole),
                "judged_groups": judged(args.url) - before,
                "answers": {
                    f"{kind} {status}": n for (kind, status), n in sorted(statuses.items())
                },
                "members_with_two_answers": unequal,
                "groups_with_the_right_answer_first": first,
            }
        )
    )
    assert judged(args.url) - before == len(whole), "a group was judged twice, or not at all"
    assert unequal == 0 and all(
        kind[1] == (200 if kind[0] == "whole" else 504) for kind in statuses
    )


if __name__ == "__main__":
    main()
