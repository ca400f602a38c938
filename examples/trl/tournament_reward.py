"""Reward function for TRL's GRPOTrainer: each group plays a tournament on a joust server.

    from tournament_reward import TournamentReward
    reward = TournamentReward("http://127.0.0.1:8000", num_generations=8)
    trainer = GRPOTrainer(..., reward_funcs=reward)

Needs the standard library only. A completion without a valid vote gets None, which TRL leaves out
of its group's baseline. A server that cannot be reached is an error, never a reward.
"""

import asyncio
import json
import pathlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

# joust_client.py is in this folder or in the folder above
sys.path += [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
from joust_client import BUSY_OR_INCOMPLETE, Refused, json_headers, send  # noqa: E402

# Maximum pause between two tries in seconds.
MAX_PAUSE_S = 30.0


class TournamentReward:
    """One number per completion: its expected share of wins against the rest of its group.

    url: address of the server; num_generations: completions per prompt, as in GRPOConfig, which TRL
    does not tell; token: one of the server's, if it requires tokens; timeout: maximum time of a
    group in seconds, tries included; at_once: maximum number of groups at the server at once;
    options: further keys of /v1/score_group such as `tournament` or `votes`.
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
        """Called by TRL with texts or chats; the completions of a prompt are adjacent."""
        n = self.num_generations
        if len(prompts) % n:
            raise ValueError(f"{len(prompts)} completions are no whole groups of {n}")
        answers = columns.get("answer")
        groups = []
        for start in range(0, len(prompts), n):
            if any(prompt != prompts[start] for prompt in prompts[start : start + n]):
                raise ValueError(
                    f"the prompts from {start} on are no group of {n}: is num_generations right?"
                )
            members = completions[start : start + n]
            group = {"prompt": prompts[start], "completions": members, "traces": True}
            if answers is not None:
                group["answer"] = answers[start]
            groups.append({**group, **self.options})
        with ThreadPoolExecutor(min(self.at_once, len(groups))) as pool:
            scored = list(pool.map(self.score, groups))
        self.log(scored, log_extra, log_metric)
        return [reward for group in scored for reward in group["rewards"]]

    def score(self, group):
        """The answer for one group; its rewards are None if the judge failed for the group."""
        headers = json_headers(self.token)
        end, wait = time.monotonic() + self.timeout, 1.0
        while True:
            left = end - time.monotonic()
            try:
                return send(self.url, group, headers, max(left, 1.0))
            except Refused as refused:
                answer = json.loads(refused.body or "{}")
                if "rewards" in answer:  # the judge gave no valid vote for any member
                    return answer
                problem = f"{refused.status} {answer.get('error', '')}"
                if refused.status not in BUSY_OR_INCOMPLETE:
                    raise RuntimeError(f"{self.url}: {problem}") from refused
            except OSError as error:
                problem = str(error)
            if time.monotonic() + wait > end:
                within = f"no answer within {self.timeout:.0f} s"
                raise RuntimeError(f"{self.url}: {within}; last: {problem}")
            time.sleep(wait)
            wait = min(2 * wait, MAX_PAUSE_S)

    def log(self, scored, log_extra, log_metric):
        """Adds ratings and the judge's outputs as columns of TRL's completions table."""
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
    """The same as a coroutine function, which TRL runs beside other asynchronous rewards."""
    reward = TournamentReward(*args, **options)

    async def tournament(prompts, completions, **arguments):
        return await asyncio.to_thread(reward, prompts, completions, **arguments)

    return tournament


def words_by_member(group):
    """The judge's outputs per member: one text with the votes of all its matches."""
    said = [[] for _ in group["rewards"]]
    for trace in group.get("traces") or []:
        first, second = trace["shown_first"], trace["shown_second"]
        for member, other, place in ((first, second, "first"), (second, first, "second")):
            said[member].append(f"[{place}, against {other}: {trace['verdict']}] {trace['text']}")
    return ["\n\n".join(votes) for votes in said]
