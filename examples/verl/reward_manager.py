"""Reward manager for verl that passes prompt, group and member on to reward_function.py.

    reward.reward_manager.source=importlib
    reward.reward_manager.name=TournamentRewardManager
    reward.reward_manager.module.path=reward_manager.py

verl's own managers do not pass them on.
"""

from functools import partial

from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase


class TournamentRewardManager(RewardManagerBase):
    """Calls the reward function once per completion, with its prompt, group and member."""

    def __init__(
        self,
        config,
        tokenizer,
        compute_score,
        reward_router_address=None,
        reward_model_tokenizer=None,
    ):
        super().__init__(config, tokenizer, compute_score)

    async def run_single(self, data):
        # the last of several outputs counts, as in verl's own managers
        item = data[-1:][0]
        known = item.non_tensor_batch
        tokens = item.batch["responses"]
        n_tokens = int(item.batch["attention_mask"][-tokens.shape[-1] :].sum())
        decode = partial(self.tokenizer.decode, tokens[:n_tokens], skip_special_tokens=True)
        said = await self.loop.run_in_executor(None, decode)
        member = known.get("session_id")
        result = await self.compute_score(
            data_source=known["data_source"],
            solution_str=said,
            ground_truth=known["reward_model"]["ground_truth"],
            extra_info=known.get("extra_info") or {},
            prompt=list(known["raw_prompt"]),
            # new for each prompt of each step
            group=str(known["uid"]),
            # verl's older trainer (`trainer.use_v1=False`) does not number the members
            member=None if member is None else int(member),
        )
        return {"reward_score": result["score"], "reward_extra_info": result}
