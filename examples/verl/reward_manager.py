"""A reward manager for verl that tells the reward function which group a completion belongs to.

    reward.reward_manager.source=importlib
    reward.reward_manager.name=TournamentRewardManager
    reward.reward_manager.module.path=reward_manager.py

verl's own managers keep prompt and group to themselves. This one is for reward_function.py, which sends them.
"""

from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase


class TournamentRewardManager(RewardManagerBase):
    """Calls the reward function once a completion, with the prompt, the group and the place in it."""

    def __init__(self, config, tokenizer, compute_score, reward_router_address=None, reward_model_tokenizer=None):
        super().__init__(config, tokenizer, compute_score)

    async def run_single(self, data):
        item = data[-1:][0]  # of several outputs the last counts, as in verl's own managers
        known = item.non_tensor_batch
        tokens = item.batch["responses"]
        n_tokens = int(item.batch["attention_mask"][-tokens.shape[-1] :].sum())
        decode = self.tokenizer.decode
        said = await self.loop.run_in_executor(None, lambda: decode(tokens[:n_tokens], skip_special_tokens=True))
        member = known.get("session_id")
        result = await self.compute_score(
            data_source=known["data_source"],
            solution_str=said,
            ground_truth=known["reward_model"]["ground_truth"],
            extra_info=known.get("extra_info") or {},
            prompt=list(known["raw_prompt"]),
            # drawn anew for each prompt of each step
            group=str(known["uid"]),
            # numbered by verl's trainer; the one before it (`trainer.use_v1=False`) does not
            member=None if member is None else int(member),
        )
        return {"reward_score": result["score"], "reward_extra_info": result}
