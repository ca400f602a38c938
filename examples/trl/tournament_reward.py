"""A reward function for TRL's GRPOTrainer that asks a joust server: each group of completions plays a tournament.

    from tournament_reward import TournamentReward
    trainer = GRPOTrainer(..., reward_funcs=TournamentReward("http://127.0.0.1:8000", num_generations=8))

Only the standard library is needed. A completion for which the judge gave no valid vote gets None, which TRL leaves out
of its group's baseline; a server that cannot be reached is an error, never a reward.
"""

import asyncio
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

# answers that may be better a moment later: the queue is full, the server starts again
TRY_AGAIN = (429, 502, 503, 504)


class TournamentReward:
    """One number a completion: its expected share of wins against the rest of its group.

    url: the server; num_generations: completions a prompt, as in GRPOConfig (TRL does not tell); token: one of the
    server's, where it asks for one; options: further keys of /v1/score_group, `tournament` or `votes`, say;
    timeout: seconds a group may take, tries included.
    """

    def __init__(self, url, num_generations, token=None, timeout=3600.0, at_once=64, **options):
        self.url = url.rstrip("/") + "/v1/score_group"
        self.num_generations = num_generations
        self.token = token
        self.timeout = timeout
        self.at_once = at_once
        self.options = options
        self.__name__ = "tournament"

    def __call__(self, prompts, completions, log_extra=None, log_metric=None, **columns):
        """Called by TRL with the completions of each prompt next to each other, as texts or as chats."""
        n = self.num_generations
        if len(prompts) % n:
            raise ValueError(f"{len(prompts)} completions are no whole groups of {n}")
        answers = columns.get("answer")
        groups = []
        for start in range(0, len(prompts), n):
            if any(prompt != prompts[start] for prompt in prompts[start : start + n]):
                raise ValueError(f"the prompts from {start} on are no group of {n}: is num_generations right?")
            group = {"prompt": prompts[start], "completions": completions[start : start + n], "traces": True}
            if answers is not None:
                group["answer"] = answers[start]
            groups.append({**group, **self.options})
        with ThreadPoolExecutor(min(self.at_once, len(groups))) as pool:
            scored = list(pool.map(self.score, groups))
        self.log(scored, log_extra, log_metric)
        return [reward for group in scored for reward in group["rewards"]]

    def score(self, group):
        """One group's answer. Where the judge failed for all of it, its rewards are None."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        body = json.dumps(group).encode()
        end, wait = time.monotonic() + self.timeout, 1.0
        while True:
            left = end - time.monotonic()
            try:
                request = urllib.request.Request(self.url, body, headers)
                with urllib.request.urlopen(request, timeout=max(left, 1.0)) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                answer = json.loads(error.read() or b"{}")
                if "rewards" in answer:  # the judge gave no valid vote for any member
                    return answer
                problem = f"{error.code} {answer.get('error', '')}"
                if error.code not in TRY_AGAIN:
                    raise RuntimeError(f"{self.url}: {problem}") from error
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                problem = str(error)
            if time.monotonic() + wait > end:
                raise RuntimeError(f"{self.url}: no answer within {self.timeout:.0f} s; last: {problem}")
            time.sleep(wait)
            wait = min(2 * wait, 30.0)

    def log(self, scored, log_extra, log_metric):
        """Ratings and the judge's own words as columns of TRL's completions table."""
        ratings = [rating for group in scored for rating in group["ratings"]]
        if log_extra is not None:
            log_extra("rating", [rating["rating"] for rating in ratings])
            log_extra("rating_stderr", [rating["rating_stderr"] for rating in ratings])
            log_extra("status", [rating["status"] for rating in ratings])
            log_extra("judge", [words for group in scored for words in words_by_member(group)])
        if log_metric is not None:
            n_matches = sum(len(group["matches"]) for group in scored)
            missing = sum(reward is None for group in scored for reward in group["rewards"])
            log_metric("tournament/matches", n_matches / len(scored))
            log_metric("tournament/missing_ratio", missing / len(ratings))


def async_tournament_reward(*args, **options):
    """The same as a coroutine function, which TRL runs beside other asynchronous reward functions."""
    reward = TournamentReward(*args, **options)

    async def tournament(prompts, completions, **arguments):
        return await asyncio.to_thread(reward, prompts, completions, **arguments)

    return tournament


def words_by_member(group):
    """What the judge said of each member: one text of all its matches' votes."""
    said = [[] for _ in group["rewards"]]
    for trace in group.get("traces") or []:
        first, second = trace["shown_first"], trace["shown_second"]
        for member, other, place in ((first, second, "first"), (second, first, "second")):
            said[member].append(f"[{place}, against {other}: {trace['verdict']}] {trace['text']}")
    return ["\n\n".join(votes) for votes in said]
