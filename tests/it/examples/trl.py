"""examples/trl called as TRL's GRPO trainer calls it: with all completions of a process at once.

    python trl.py ADDRESS
"""

import asyncio
import json
import sys

from groups import load, problem_of

URL = f"http://{sys.argv[1]}"
module = load("trl/tournament_reward.py")
TournamentReward = module.TournamentReward
SETTINGS = {"num_generations": 4, "tournament": "round_robin", "seed": 3}

questions = ["What is 47 + 93?"] * 4 + ["What is 6 * 7?"] * 4
prompts = [[{"role": "user", "content": text}] for text in questions]
sums = ["The answer is 140.", "The answer is 130.", "It is 150.", "The answer is 140."]
products = ["6 * 7 = 42. The answer is 42.", "The answer is 48.", "The answer is 36."]
products += ["The answer is 42."]
completions = [[{"role": "assistant", "content": text}] for text in sums + products]

extra, metrics = {}, {}
rewards = TournamentReward(URL, **SETTINGS)(
    prompts=prompts,
    completions=completions,
    completion_ids=[[1]] * 8,
    trainer_state=None,
    log_extra=extra.__setitem__,
    log_metric=metrics.__setitem__,
)
again = module.async_tournament_reward(URL, **SETTINGS)
same = asyncio.run(again(prompts=prompts, completions=completions)) == rewards
nowhere = TournamentReward("http://127.0.0.1:9", 4, timeout=0.1)
problems = [
    problem_of(lambda: TournamentReward(URL, 3)(prompts, completions)),
    problem_of(lambda: TournamentReward(URL, 8)(prompts, completions)),
    problem_of(lambda: TournamentReward(URL, 4, votes=0)(prompts, completions)),
    problem_of(lambda: nowhere(prompts, completions)),
]
print(json.dumps([rewards, extra, metrics, same, problems]))
