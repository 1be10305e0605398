# ruff: noqa: RUF001
"""Refusals in ten other languages than English, and whether a reply's language is one of the eleven."""

from __future__ import annotations

import re

# Each says that the writer cannot or will not do what is asked, or declines.
_PHRASES = {
    "German": (
        r"\b(?:ich (?:kann|werde|darf|möchte|könnte)|(?:kann|werde|darf|möchte) ich)\b[^.!?]{0,50}\b(?:nicht"
        r"|keine?n?)\b[^.!?]{0,50}"
        r"\b(?:\w*helfen|unterstützen|beantworten|geben|schreiben|erklären|bereitstellen|anbieten|erfüllen|tun|machen"
        r"|erstellen|verfassen|beitragen|mitwirken|nachkommen|sagen|liefern|dienen)\b"
        r"|\bich (?:weigere mich|lehne (?:das|dies|es|die)\b|muss (?:das |dies )?(?:leider )?ablehnen)"
        r"|\bdas (?:kann|darf|werde) ich (?:leider )?nicht\b"
        r"|\b(?:mache|tue|gebe|schreibe|erkläre|beantworte) ich (?:\w+ )?(?:nicht|keine)\b|\bich kann (?:das|dies"
        r"|es)? ?(?:leider )?nicht\."
    ),
    "French": (
        r"\bje (?:ne |n')(?:peux|puis|vais|suis|souhaite|veux|saurais|pourrai|pourrais)\b[^.!?]{0,30}\b(?:aider"
        r"|fournir|répondre"
        r"|assister|écrire|expliquer|donner|faire|accéder|produire|créer|rédiger|participer|aide|soutenir|parler"
        r"|satisfaire)"
        r"|\bje (?:refuse|dois refuser|dois décliner|décline)\b|\bje ne (?:peux|vais) pas\."
        r"|\bimpossible pour moi\b|\bil m'est impossible\b"
    ),
    "Spanish": (
        r"\bno (?:puedo|voy a|podré|podría|debo|me es posible|estoy (?:autorizad|dispuest|capacitad)\w*"
        r"|quiero)\b[^.!?]{0,30}\b(?:ayud|proporcion"
        r"|ofrec|dar|escrib|explic|respond|asist|hacer|crear|generar|cumplir|particip|apoyar|compartir|brindar"
        r"|facilitar|hablar)"
        r"|\b(?:me niego|debo (?:rechazar|negarme)|tengo que (?:rechazar|negarme))\b"
        r"|\blo siento,? (?:pero )?no (?:puedo|voy)\b"
    ),
    "Italian": (
        r"\bnon (?:posso|sono in grado|intendo|voglio|potrei|mi è possibile"
        r"|sono autorizzat\w)\b[^.!?]{0,30}\b(?:aiut|forn|scriv|spieg|rispond|dar"
        r"|assist|fare|farlo|crea|gener|soddisf|partecip|offr|parlar|condivid)|\b(?:mi rifiuto|devo rifiutare"
        r"|devo declinare)\b"
    ),
    "Portuguese": (
        r"\bnão (?:posso|vou|consigo|devo|estou autorizad\w|poderei|me é possível|quero)\b[^.!?]{0,30}\b(?:ajud"
        r"|fornec|escrev|explic|respond|dar"
        r"|assist|auxili|fazer|cri|ger|atend|particip|compartilh|falar|oferec)|\b(?:me recuso|recuso-me"
        r"|devo recusar|tenho que recusar)\b"
    ),
    "Russian": (
        r"\bне (?:могу|буду|стану|смогу|можем|имею права|вправе|хочу)\b[^.!?]{0,40}(?:помо|предостав|напис|писать"
        r"|объясн|отве|дать|давать"
        r"|рассказ|выполн|сдела|делать|созда|обсужд|содейств|поддерж|участв)|\b(?:отказываюсь|вынужден\w? отказать)"
    ),
    "Chinese": (
        r"(?:我|抱歉|对不起|對不起)[^。.!?你]{0,20}(?:无法|無法|不能|不会|不會|不可以|没办法|不便|拒绝|拒絕|不愿)[^。.!?]{0,14}"
        r"(?:帮|幫|提供|协助|協助|回答|满足|写|寫|解释|支持|给|做|讨论|分享|完成|生成|参与|这样|告诉)|我(?:必须|只能)?(?:拒绝|拒絕)"
    ),
    "Japanese": (
        r"(?:手伝|答え|対応|提供|協力|支援|応え|説明|書く|書け|手助け|回答|助け|教え|作成|伝え|応じ|参加|案内)[^。.!?]{0,14}"
        r"(?:できません|できかねます|できない|いたしかねます|出来ません|わけにはいきません|しません|られません|けません|えません)|(?:それ|これ)は?(?:でき|致しかね|いたしかね)(?:ません"
        r"|ます)|お断り(?:し|いた|させ)"
    ),
    "Arabic": (
        r"(?:لا|لن) (?:أستطيع|استطيع|يمكنني|أقدر|أتمكن|يمكننا|نستطيع)[^.!?؟]{0,30}(?:مساعد|تقديم|تزويد|إجابة"
        r"|كتابة|شرح|إعطاء|فعل|المشاركة|توفير|أساعد|أن)"
        r"|لن (?:أساعد|أكتب|أشرح|أقدم|أجيب|أفعل|أقوم)|(?:^|\s)(?:أرفض|أعتذر عن)|غير قادر على|لا أستطيع\W*$"
    ),
    "Hindi": (
        r"(?:मैं|हम|मुझे)[^।.!?]{0,60}(?:मदद|सहायता|जानकारी|उत्तर|जवाब|लिख|बता|समझा|प्रदान|दे"
        r"|कर)[^।.!?]{0,16}(?:नहीं|असमर्थ)"
        r"|(?:मैं|हम)[^।.!?]{0,40}(?:इनकार|मना) करत"
    ),
}  # fmt: skip
_REFUSAL = re.compile("|".join(_PHRASES.values()))

# Words that tell a language written in Latin letters.
_COMMON = {
    "English": "the and of to is that it you for this with are not your be have as was but can they from will if"
    " so do at no we me my in on or he she his her had has which there an by what who would all more than them",
    "German": "der die das und ist nicht ich sie mit ein eine zu den auf für es dem von sich auch wie oder wenn kann",
    "French": "le la les des est que je ne pas un une pour dans vous ce qui avec sur il nous mais plus au du et",
    "Spanish": "el la los las que de no es un una por con para se lo su como más pero del y en al si o",
    "Italian": "il la che di non è un una per con si sono del le gli ma come più della nel da lo anche questo",
    "Portuguese": "o os que não é um uma para com se por mais como do da em ao dos das você mas isso no na",
    "Dutch": "het een niet ik je van dat zijn met voor op maar dit kunnen ook er wat naar hebben wij kan worden deze",
    "Swedish": "och att det inte jag är som för på med av en ett kan du den till om har men vi detta eller",
    "Danish": "og at det ikke jeg er som for på med af en et kan du den til om har men vi dette eller",
    "Norwegian": "og det ikke jeg er som for på med av en et kan du den til om har men vi dette eller å",
    "Finnish": "ja on ei en että se hän olen voi mutta tämä kuin sinä minä myös tai sen joka ole"
    " voin auttaa anteeksi valitettavasti tässä sinua",
    "Polish": "nie się jest że na i w z do to jak ale mogę tym dla po przez lub ten które ci tego",
    "Czech": "a je se že na nemohu to v s jak ale pro tak by jsem nebo které při jako vám tím není",
    "Slovak": "a je sa že na nemôžem to v s ako ale pre tak by som alebo ktoré pri vám tým nie",
    "Turkish": "bir ve bu için ile de da ben çok ama olarak daha ne gibi değil var size konuda bunu"
    " bana üzgünüm maalesef yardımcı önce sonra tabii onu",
    "Hungarian": "a az és hogy nem egy is ez van meg de ha csak ezt ki vagy mint nekem ebben sajnálom"
    " tudok segíteni segíthetek",
    "Romanian": "și nu în să de la cu este pe o un mai din pentru care sunt dar pot acest această vă",
    "Indonesian": "yang dan di tidak ini itu dengan untuk saya dari anda dalam bisa akan pada adalah atau ada",
    "Vietnamese": "tôi không là và của có thể cho bạn với được này một các những trong để",
    "Swahili": "na ya wa ni kwa siwezi hii katika kama yako cha la hiyo ili lakini kuhusu samahani"
    " katika kusaidia kukusaidia",
    "Tagalog": "ang ng sa na hindi ako mga ko ito po kita ay at iyon ka siya kayo paumanhin diyan hindi po",
    "Catalan": "el la els les que de no és un una per amb però us puc això aquest ho del i",
}
_KNOWN = ("English", "German", "French", "Spanish", "Italian", "Portuguese")
_SHARED = frozenset(word for language in _KNOWN for word in _COMMON[language].split())
_WORDS = {
    language: frozenset(word for word in words.split() if len(word) > 1)
    - (frozenset() if language in _KNOWN else _SHARED)
    for language, words in _COMMON.items()
}
_OTHER_LATIN = re.compile(
    r"[\u0105\u0107\u0119\u0142\u0144\u015b\u017a\u017c\u011f\u0131\u015f\u0159\u011b\u016f\u0151\u0171"
    r"\u0103\u0219\u021b\u00e5\u00f8\u0111\u01a1\u01b0\u010d\u0161\u017e\u1ea0-\u1ef9]"
)
_OTHER_CYRILLIC = re.compile(
    r"[\u0456\u0457\u0454\u0491\u0458\u0459\u045a\u0452\u045b\u04d9\u049b\u04a3]|\b(?:можу|цим|що|це|мога|това|съм)\b"
)
_OTHER_ARABIC = re.compile(r"[\u067e\u0686\u0698\u06af\u06a9\u06cc\u0679\u0688\u0691\u06d2\u06d5]")
_OTHER_DEVANAGARI = re.compile(r"आहे|आणि|नाही|गर्न|छैन|छु")
_SCRIPTS = (
    (re.compile(r"[a-z\u00df-\u024f\u1e00-\u1eff]"), _OTHER_LATIN),
    (re.compile(r"[\u0400-\u052f]"), _OTHER_CYRILLIC),
    (re.compile(r"[\u0600-\u06ff]"), _OTHER_ARABIC),
    (re.compile(r"[\u0900-\u097f]"), _OTHER_DEVANAGARI),
    (re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]"), None),
)


def refuses_in_other_languages(text: str) -> bool:
    """Whether `text`, in lower case, declares a refusal in one of the ten."""
    return _REFUSAL.search(text) is not None


def is_known(text: str) -> bool:
    """Whether `text` may be in one of the eleven languages: it shows no other's script, letters or frequent words."""
    text = text[:2000].lower()
    letters = sum(map(str.isalpha, text))
    if letters < 4:
        return True
    counts = [len(script.findall(text)) for script, _ in _SCRIPTS]
    most = max(counts)
    if most < letters / 2:
        return False
    other = _SCRIPTS[counts.index(most)][1]
    foreign = len(other.findall(text)) if other else 0
    if foreign >= 2 and foreign > most / 50:
        return False
    words = re.findall(r"[^\W\d_]{2,}", text)
    hits = {language: [word for word in words if word in common] for language, common in _WORDS.items()}
    best = max(hits, key=lambda language: len(hits[language]))
    few = 2 if len(words) < 12 else 3
    return best in _KNOWN or len(set(hits[best])) < few or len(hits[best]) < len(words) / 6
