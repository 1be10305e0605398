"""What words of ten other languages mean where an answer names a choice, in English (paper: evaluation, rewards)."""

from __future__ import annotations

import re

CJK = "\u3040-\u30ff\u4e00-\u9fff"

# Beside each language the words that tell it, and then what its words mean.
LANGUAGES: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "antwort|lösung|ist (?:richtig|falsch)|oder",
        {
            "buchstabe": "letter",
            "antwort|lösung": "answer",
            "ist|lautet|wäre": "is",
            "nicht|kein|keine|weder": "not",
            "oder": "or",
            "noch": "nor",
            "und": "and",
            r"richtig\w*|korrekt\w*": "correct",
            r"falsch\w*": "wrong",
            "die|der|das": "the",
            "aber|sondern": "but",
            "wähle|nehme": "choose",
            "ich": "I",
            "also|daher": "so",
        },
    ),
    (
        "réponse|réponses|est (?:correcte?|fausse?|faux|juste)",
        {
            "réponse|réponses": "answer",
            "n'est pas": "is not",
            "est": "is",
            "ne|pas|ni|aucune": "not",
            "ou": "or",
            "et": "and",
            "correcte?|bonne|juste": "correct",
            "fausse?|faux|incorrecte?": "wrong",
            "la|le": "the",
            "mais": "but",
            "choisis": "choose",
            "je": "I",
            "donc": "so",
        },
    ),
    (
        "respuesta|opción",
        {
            "letra": "letter",
            "respuesta": "answer",
            "opción": "option",
            "es|sería": "is",
            "no|ni": "not",
            "o": "or",
            "y": "and",
            "correct[ao]": "correct",
            "incorrect[ao]|fals[ao]": "wrong",
            "la|el": "the",
            "pero|sino": "but",
            "elijo|escojo": "I choose",
            "entonces": "so",
        },
    ),
    (
        "risposta|opzione",
        {
            "lettera": "letter",
            "risposta": "answer",
            "opzione": "option",
            "è|sarebbe": "is",
            "non|né": "not",
            "o": "or",
            "oppure": "or",
            "e": "and",
            "corrett[ao]|giust[ao]": "correct",
            "sbagliat[ao]|errat[ao]|fals[ao]": "wrong",
            "la|il": "the",
            "ma|bensì": "but",
            "scelgo": "I choose",
            "quindi": "so",
        },
    ),
    (
        "resposta|opção|alternativa",
        {
            "letra": "letter",
            "resposta": "answer",
            "opção|alternativa": "option",
            "é|seria": "is",
            "não|nem": "not",
            "ou": "or",
            "e": "and",
            "corret[ao]|cert[ao]": "correct",
            "errad[ao]|incorret[ao]|fals[ao]": "wrong",
            "[aA](?= answer| option)": "the",
            "o": "the",
            "mas|sim": "but",
            "escolho": "I choose",
            "portanto": "so",
        },
    ),
    (
        "ответ|вариант|ответом",
        {
            "ответ|ответом": "answer",
            "вариант": "option",
            "это|будет": "is",
            "не|ни": "not",
            "или": "or",
            "и": "and",
            r"правильн\w*|верн\w*": "correct",
            r"неправильн\w*|неверн\w*": "wrong",
            "но": "but",
            "выбираю": "choose",
            "я": "I",
        },
    ),
    (
        "答案|选项|選項|应选|我选|故选|此选|以选",
        {
            "答案": " answer ",
            "选项|選項": " option ",
            "不是|并非|不": " is not ",
            "是|为|為|应该": " is ",
            "或者?": " or ",
            "和|与": " and ",
            "正确的?": " correct ",
            "错误的?|错": " wrong ",
            "我?选择?": " I choose ",
            "所以|因此": " so ",
        },
    ),
    (
        "答え|正解|選択肢|解答|回答",
        {
            "ではありません|ではない|じゃない|でない": " is not ",
            "答え|正解|解答|回答": " answer ",
            "選択肢": " option ",
            "です|だ": "",
            "または|か": " or ",
            "と": " and ",
            "正しい": " is correct ",
            "間違い|誤り": " is wrong ",
            "は|が": " is ",
        },
    ),
    (
        "الإجابة|الجواب|الخيار",
        {
            "الإجابة|الجواب": "answer",
            "الخيار": "option",
            "هي|هو": "is",
            "ليست|ليس|لا": "not",
            "أو": "or",
            "الصحيحة|الصحيح|صحيح": "correct",
            "خاطئة|خاطئ|خطأ": "wrong",
        },
    ),
    (
        "उत्तर|जवाब|विकल्प",
        {
            "(?:उत्तर|जवाब)\\s*:?": "answer: ",
            "विकल्प": "option",
            "नहीं": "not",
            "है": "is",
            "या": "or",
            "और": "and",
            "सही": "correct",
            "गलत|ग़लत": "wrong",
        },
    ),
)


def _compiled(words: str) -> re.Pattern[str]:
    """A pattern of whole words; of words of one letter, which may be a choice's, in lower case alone."""
    spaced = not re.match(rf"[{CJK}]", words)
    pattern = rf"(?<![^\W_])(?:{words})(?!\w)" if spaced else f"(?:{words})"
    return re.compile(pattern, 0 if words[0] in words.split("|") else re.IGNORECASE)


_FOREIGN = [(_compiled(told), [(_compiled(one), into) for one, into in words.items()]) for told, words in LANGUAGES]


def in_english(text: str) -> str:
    """`text` with English for such words of each language that one of its telling words shows."""
    text = re.sub(rf"(?<=[{CJK}])(?=[\w(])(?![{CJK}])|(?<=[\w)])(?<![{CJK}])(?=[{CJK}])", " ", text)
    for told, words in _FOREIGN:
        if told.search(text):
            for word, into in words:
                text = word.sub(into, text)
    return text
