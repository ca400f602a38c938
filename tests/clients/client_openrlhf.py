"""OpenRLHF's own executor with its HTTP client, by URL and through examples/openrlhf.

    python client_openrlhf.py http://ADDRESS

Generation is a stand-in; tokenizer, decoding, cutting, requests and retries are OpenRLHF's.
"""

import asyncio
import os
import sys
import types

from checks import ROOT, TOKENIZER, check, doing, right_ones_win, sums

doing("imports torch and OpenRLHF")
from openrlhf.utils.agent import SingleTurnAgentExecutor  # noqa: E402
from tokenizers.normalizers import NFC  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

URL = sys.argv[1]
os.environ["JOUST_URL"] = URL
sys.path.insert(0, str(ROOT / "examples/openrlhf"))
TOKENS = AutoTokenizer.from_pretrained(TOKENIZER)
NEW_TOKENS = 64
PARAMS = types.SimpleNamespace(max_tokens=NEW_TOKENS, logprobs=None)


class Engine:
    """What vLLM returns, with texts that are known beforehand."""

    def __init__(self, texts):
        self.texts = list(texts)

    async def generate(self, ids, params, multi_modal_data=None):
        tokens = TOKENS.encode(self.texts.pop(0)) + [TOKENS.eos_token_id]
        output = types.SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=None)
        return types.SimpleNamespace(outputs=[output])


def by_url():
    return SingleTurnAgentExecutor(URL + "/get_reward")


def by_executor():
    import reward_executor

    return reward_executor.AgentExecutor()


def rewards_of(executor, seed, wrap=lambda question: question, kept_tokens=1 << 20):
    async def rollouts():
        calls = []
        for question, label, texts in sums(3, seed):
            engine = Engine(texts)
            calls += [
                executor.execute(
                    wrap(question), label, PARAMS, NEW_TOKENS + kept_tokens, TOKENS, engine
                )
                for _ in texts
            ]
        return [output["reward"] for output in await asyncio.gather(*calls)]

    rewards = asyncio.run(rollouts())
    return [right_ones_win(rewards[start : start + 4]) for start in range(0, len(rewards), 4)][0]


def chat(question):
    turns = [{"role": "user", "content": question}]
    return TOKENS.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def composed():
    """A tokenizer that composes Unicode, as Qwen's do, and a prompt that is decomposed."""
    TOKENS.backend_tokenizer.normalizer = NFC()
    try:
        return rewards_of(by_url(), 5, lambda question: "Re\u0301pondez. " + question)
    finally:
        TOKENS.backend_tokenizer.normalizer = None


check("by URL", lambda: rewards_of(by_url(), 1))
check("by URL, chat template", lambda: rewards_of(by_url(), 2, chat))
check("by URL, prompt cut on the left", lambda: rewards_of(by_url(), 3, kept_tokens=4))
check("by URL, template and cut", lambda: rewards_of(by_url(), 4, chat, kept_tokens=6))
check("by URL, composed Unicode", composed)
check("by executor", lambda: rewards_of(by_executor(), 6))
check("by executor, prompt cut", lambda: rewards_of(by_executor(), 7, chat, kept_tokens=6))
