# tokenizer.json as it is: see `auto_map` in tokenizer_config.json.
from transformers import PreTrainedTokenizerFast


class TokenizerAsIs(PreTrainedTokenizerFast):
    pass
