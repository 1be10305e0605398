"""The tiny world's tokenizer: one token a word, as a Hugging Face fast tokenizer with a chat template."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from gdpo.tiny.lexicon import (
    ASSISTANT,
    BOS,
    END_THINK,
    EOS,
    PAD,
    THINK,
    UNKNOWN,
    USER,
    vocabulary,
)

# A prompt is a prefix of the same prompt with its completion, as TRL requires; a completion ends in <eos>.
CHAT_TEMPLATE = (
    "{{ '" + BOS + "' }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '" + USER + "' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '" + ASSISTANT + "' }}{% generation %}{{ message['content'] + '" + EOS + "' }}"
    "{% endgeneration %}"
    "{% else %}"
    "{{ raise_exception('expected role user or assistant, found ' + message.role) }}"
    "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)


def build_tokenizer(more_words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer over the world's words; `<think>` and `</think>` are ordinary tokens that decoding keeps.

    `more_words` come behind those that every world has.
    """
    special = [PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT]
    words = [*special, THINK, END_THINK, *dict.fromkeys([*vocabulary(), *more_words])]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_tokens([AddedToken(THINK, special=False), AddedToken(END_THINK, special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
