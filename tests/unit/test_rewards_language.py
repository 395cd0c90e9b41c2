"""Language by script and function words, and the share of words that keep to it."""

import pytest

from rewards import LanguageVerifier, Question, Status
from rewards.scripts import LANGUAGES, count_words, language_of

QUESTION = Question(text="", reference="")
SENTENCES = [  # one thought (we should go to the market before it closes) in each language
    ("en", "What a day! I think that we should go to the market before it closes."),
    ("es", "Creo que deberíamos ir al mercado antes de que cierre, porque hace buen tiempo."),
    ("pt", "Eu acho que nós devemos ir ao mercado antes que ele feche, porque o tempo está bom."),
    ("fr", "Je pense que nous devrions aller au marché avant la fermeture, parce qu'il fait beau."),
    ("de", "Ich denke, dass wir zum Markt gehen sollten, bevor er schließt, weil das Wetter gut ist."),
    ("it", "Penso che dovremmo andare al mercato prima che chiuda, perché il tempo è bello."),
    ("nl", "Ik denk dat we naar de markt moeten gaan voordat hij sluit, want het is mooi weer."),
    ("pl", "Myślę, że powinniśmy iść na rynek, zanim zostanie zamknięty, bo jest ładna pogoda."),
    ("vi", "Tôi nghĩ rằng chúng ta nên đi chợ trước khi nó đóng cửa vì thời tiết đẹp."),
    ("fi", "Minusta meidän pitäisi mennä torille ennen kuin se sulkeutuu, koska sää on hyvä."),
    ("sw", "Nadhani tunapaswa kwenda sokoni kabla ya kufungwa kwa sababu hali ya hewa ni nzuri."),
    ("tr", "Bence kapanmadan önce pazara gitmeliyiz çünkü bu hava çok güzel ve güneş var."),
    ("id", "Saya pikir kita harus pergi ke pasar sebelum tutup karena cuacanya bagus dan cerah."),
    ("ru", "Я думаю, что нам нужно пойти на рынок до закрытия, потому что погода хорошая."),
    ("uk", "Я думаю, що нам потрібно піти на ринок до закриття, тому що погода гарна."),
    ("bg", "Мисля, че трябва да отидем на пазара, преди да затвори, защото времето е хубаво."),
    ("ar", "أعتقد أننا يجب أن نذهب إلى السوق قبل أن يغلق لأن الطقس جميل في هذا اليوم."),
    ("fa", "فکر می‌کنم باید قبل از بسته شدن بازار به آنجا برویم، چون هوا خوب است و این روز خوبی است."),
    ("ur", "میرا خیال ہے کہ ہمیں بازار بند ہونے سے پہلے جانا چاہیے کیونکہ موسم اچھا ہے۔"),
    ("hi", "मुझे लगता है कि हमें बाज़ार बंद होने से पहले जाना चाहिए क्योंकि मौसम अच्छा है।"),
    ("mr", "मला वाटते की आपण बाजार बंद होण्यापूर्वी जायला हवे कारण हवामान छान आहे."),
    ("ne", "मलाई लाग्छ बजार बन्द हुनु अघि हामी जानु पर्छ किनभने मौसम राम्रो छ र यो दिन पनि।"),
    ("el", "Νομίζω ότι πρέπει να πάμε στην αγορά"),
    ("he", "אני חושב שאנחנו צריכים ללכת לשוק"),
    ("bn", "আমি মনে করি আমাদের বাজারে যাওয়া উচিত"),
    ("pa", "ਮੈਨੂੰ ਲੱਗਦਾ ਹੈ ਕਿ ਸਾਨੂੰ ਬਾਜ਼ਾਰ ਜਾਣਾ ਚਾਹੀਦਾ ਹੈ"),
    ("gu", "મને લાગે છે કે આપણે બજારમાં જવું જોઈએ"),
    ("ta", "நாம் சந்தைக்குச் செல்ல வேண்டும்"),
    ("te", "మనం మార్కెట్‌కు వెళ్లాలి"),
    ("kn", "ನಾವು ಮಾರುಕಟ್ಟೆಗೆ ಹೋಗಬೇಕು"),
    ("ml", "നമ്മൾ ചന്തയിൽ പോകണം"),
    ("th", "ฉันคิดว่าเราควรไปตลาดก่อนปิด"),
    ("ko", "시장이 닫기 전에 가야 한다고 생각합니다"),
    ("ja", "市場が閉まる前に行くべきだと思います"),
    ("zh", "我认为我们应该在市场关门之前去"),
]


@pytest.mark.parametrize(("language", "sentence"), SENTENCES, ids=[language for language, _ in SENTENCES])
def test_each_language_is_told(language: str, sentence: str) -> None:
    assert language_of(sentence) == language


def test_the_table_of_sentences_is_complete() -> None:
    assert {language for language, _ in SENTENCES} == set(LANGUAGES)


@pytest.mark.parametrize("text", ["", "42 + 17 = 59", "xyzzy", "🙂🙂", "да нет no yes ไม่ שלום", "\x00"])
def test_what_cannot_be_told_is_not_guessed(text: str) -> None:
    assert language_of(text) is None


def test_words_are_counted_by_script() -> None:
    counts = count_words("don't naïve мир 猫が好き 한국어 말 हिन्दी १२ 12").by_script
    assert counts == {"latin": 2, "cyrillic": 1, "han": 2, "kana": 2, "hangul": 2, "devanagari": 1}


@pytest.mark.parametrize(
    ("language", "text", "score"),
    [
        ("en", "First we add the numbers.", 1.0),
        ("en", "First we add 然后相减", 3 / 7),
        ("zh", "First we add 然后相减", 4 / 7),
        ("zh", "首先设x等于三，所以 $x+1$ 是四。", 1.0),
        ("ja", "まず三と四を足す。", 1.0),
        ("zh", "まず三と四を足す。", 0.0),
        ("ru", "Сначала сложим числа, then stop", 3 / 5),
        ("en", "Use \\frac{1}{2} and `print(x)` 是", 2 / 3),
        ("en", "so $你好$ it", 2 / 4),
        ("en", "```python\nfor item in items: pass\n``` done", 1.0),
        ("en", "1 + 1 = 2", 0.0),
        ("en", "", 0.0),
        ("en", "$ 5 and 6", 1.0),
    ],
)
def test_score_is_the_share_of_words(language: str, text: str, score: float) -> None:
    verdict = LanguageVerifier(language=language).verify(text, QUESTION)
    assert verdict.score == pytest.approx(score)
    assert verdict.status is (Status.CORRECT if score == 1.0 else Status.WRONG)


def test_only_the_reasoning_is_judged_unless_all_is_asked_for() -> None:
    text = "<think>we think here</think><answer>四</answer>"
    assert LanguageVerifier(language="en").verify(text, QUESTION).score == 1.0
    assert LanguageVerifier(language="en", part="whole").verify(text, QUESTION).score == 0.75


@pytest.mark.parametrize(("args", "message"), [({"language": "xx"}, "'xx'.*en"), ({"part": "all"}, "'all'.*whole")])
def test_a_mistaken_argument_is_named(args: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageVerifier(**args)
