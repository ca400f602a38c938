"""Group reward for slime: the samples of a prompt play a tournament on a joust server.

    --group-rm --custom-rm-path group_rm.tournament --rm-url http://judge:8000/v1/score_group

A sample without a valid vote is masked by slime's own mark, `remove_sample`. slime still wants a
number for it: it gets the mean of the rest of its group, which leaves the baseline of the others
unchanged.
"""

import asyncio
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

# joust_client.py is in this folder or in the folder above
sys.path += [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
from joust_client import ask, json_headers, token_of_environment  # noqa: E402

# Maximum number of groups at the server at once.
THREADS = ThreadPoolExecutor(256)


async def tournament(args, samples):
    """One reward per sample: its expected share of wins against the rest of its group."""
    prompts = [sample.prompt for sample in samples]
    if any(prompt != prompts[0] for prompt in prompts):
        raise ValueError("the samples have different prompts, wanted one group: is --group-rm set?")
    # with --apply-chat-template the prompt holds the template's tokens; the judge judges better
    # without them
    question = (samples[0].metadata or {}).get("question", prompts[0])
    body = {"prompt": question, "completions": [sample.response for sample in samples]}
    if isinstance(samples[0].label, (str, int, float)):
        body["answer"] = samples[0].label  # only a rule reads it, never a judge
    headers = json_headers(token_of_environment())
    loop = asyncio.get_running_loop()
    scored = await loop.run_in_executor(THREADS, ask, args.rm_url, body, headers)
    known = [reward for reward in scored["rewards"] if reward is not None]
    rewards = []
    for sample, reward, rating in zip(samples, scored["rewards"], scored["ratings"], strict=True):
        sample.metadata = {**(sample.metadata or {}), "joust": rating}
        if reward is None:
            sample.remove_sample = True
            reward = sum(known) / len(known)
        rewards.append(reward)
    return rewards
