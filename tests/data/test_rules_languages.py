"""The annotator `rules` on hand-made cases of all nine languages.

In a case, `{Name|speech}` is speech of that character, `{|speech}` speech of anybody; the rest is narration.
"""

import re

import pytest

from spellbound.data.annotators.rules import LANGUAGES, Rules
from spellbound.data.documents import Document
from spellbound.directives import Open, Text, parse

CASES = {
    "en": [
        "{Anna|“Come in,”} said Anna. {Anna|“It is late.”}",
        "{Tom|‘Where is the lamp?’} asked Tom. {Tom|‘I can't see the dog's bowl.’}",
        "Mr. Hale turned round. {Mr. Hale|“I know nothing of it,”} he said.",
        (
            "{Mary Bell|“Well!”} cried Mary Bell.\n\n"
            "{John Marsh|“Well what?”} said John Marsh.\n\n"
            "{Mary Bell|“You know.”}\n\n"
            "{John Marsh|“I do not.”}"
        ),
        "{Ned|“It began in May.}\n\n{Ned|“In June it was over,”} said Ned.",
        "She had read “Middlemarch” twice, and called the cat “Mr. Pip”.",
        'The old porter lifted his hat. {Old porter|"Nobody came,"} said the old porter.',
        "{Ruth|“He told me ‘never again’ and left,”} Ruth replied.",
        "Peter leaned over and whispered: {Peter|“The boat is gone.”}",
        "{Sarah|'The boys' hats were wet,'} said Sarah, {Sarah|'and I'm cold.'}",
        "{Narrator|“Who is there?”} I asked. {|“Only me.”}",
        "{Tom|—Come up, Tom,} he said.\n\n{|—I will not.}\n\n{|—Come!}".replace("{Tom|", "{|"),
    ],
    "fr": [
        "{Anne|— Oui,} dit Anne, {Anne|je viens.}",
        "{Jean|« Je ne sais pas »,} répondit Jean.".replace("»,}", "»},"),
        "Jean leva la tête.\n\n{Jean|— Oui,} dit-il, {Jean|je viens.}\n\n{|— Merci.}",
        "{Pierre|« Viens,} dit Pierre, {Pierre|il est tard. »}",
        "{Julie|— Que fais-tu là ?} s'écria Julie.\n\n{Marc|— Rien,} murmura Marc.",
        "{Madame Cormier|— Et cette opinion ?} demanda madame Cormier.",
        "La vieille femme soupira : {Vieille femme|« Il ne reviendra pas. »}",
        "Elle aimait le mot « amitié » et relisait « Les Misérables ».",
        "{Louise|— Tu t'appelles Jacques !} continua Louise.\n\n{|— Oui.}",
        "{Paul|« C'est lui. »} Et Paul ajouta : {Paul|« Je l'ai vu. »}",
    ],
    "de": [
        "{Anna|„Komm herein“}, sagte Anna. {Anna|„Es ist spät.“}",
        "{Karl|»Ich weiß es nicht«}, antwortete Karl.",
        "{Karl|»Er sagte ›niemals‹ und ging«}, erzählte Karl.",
        "Die alte Frau nickte. {Alte Frau|»Nobel ist das nicht«}, sagte die alte Frau.",
        "Otto drehte sich um und fragte: {Otto|„Wo ist das Boot?“}",
        (
            "{Grete|»Nein!«} rief Grete.\n\n"
            "{Hans|»Doch!«} sagte Hans.\n\n"
            "{Grete|»Niemals.«}\n\n"
            "{Hans|»Wir werden sehen.«}"
        ),
        "Er las das Buch „Effi Briest“ und nannte den Hund „Rollo“.",
        "{Herr Lenz|„Guten Abend“}, sagte Herr Lenz und nahm den Hut ab.",
        "{|„Ich komme“}, sagte er, {|„aber erst morgen.“}",
        "{Lotte|„Es war im Mai.}\n\n{Lotte|„Im Juni war es vorbei“}, sagte Lotte.",
    ],
    "nl": [
        "{Anna|‘Kom binnen,’} zei Anna. {Anna|‘Het is laat.’}",
        "{Piet|'Ik weet het niet,'} antwoordde Piet. {Piet|'Het is 's avonds donker.'}",
        '{Jan|"Waar is de boot?"} vroeg Jan.',
        "De oude man knikte. {Oude man|‘Niemand,’} zei de oude man.",
        "Willem draaide zich om en fluisterde: {Willem|‘De boot is weg.’}",
        (
            "{Lotte|‘Nee!’} riep Lotte.\n\n"
            "{Bram|‘Jawel!’} zei Bram.\n\n"
            "{Lotte|‘Nooit.’}\n\n"
            "{Bram|‘We zullen zien.’}"
        ),
        "Ze noemde de kat ‘Minoes’ en las ‘Max Havelaar’ twee keer.",
        "{Mevrouw Smit|“Goedenavond,”} zei mevrouw Smit.",
        "{Kees|„Ik kom morgen,”} zei Kees.",
    ],
    "es": [
        "{Ana|—¿Qué delirio es ese?} —exclamó Ana—. {Ana|¿Lo has pensado?}",
        "{Pedro|-No sé} -respondió Pedro-. {Pedro|Nadie vino.}",
        (
            "{Doña Luz|—¿Sabe que soy pobre?} —preguntó doña Luz.\n\n"
            "{Don Jaime|—Lo sé} —dijo don Jaime.\n\n"
            "{Doña Luz|—¿Y bien?}\n\n"
            "{Don Jaime|—Nada.}"
        ),
        "{Carlos|«Ven pronto»,} dijo Carlos.".replace("»,}", "»},"),
        "El viejo marinero bajó la voz y dijo: {Viejo marinero|«El barco se fue».}".replace("».}", "»}."),
        "Leía «La Celestina» y llamaba al perro «Capitán».",
        "{Rosa|—¡Sí, eh!} interrumpió Rosa.\n\n{|—Sí.}",
        "{Luis|—Voy} —dijo Luis levantándose—; {Luis|espera.}",
        "{Juana|“No quiero”}, dijo Juana.",
        "Marta abrió la puerta y preguntó:\n\n{Marta|—¿Hay alguien?}",
    ],
    "pt": [
        "{Ana|— É supersticioso?} — perguntou Ana.\n\n{|— Sou.}",
        "{Pedro|— Sou, como toda a gente} — respondeu Pedro — {Pedro|mas luto.}",
        "{Júlio|— Nunca!} — respondeu Júlio com um sorriso.",
        "{Maria|“Não sei”}, disse Maria.",
        "O velho pescador parou e disse: {Velho pescador|«O barco partiu».}".replace("».}", "»}."),
        "Lia «Os Maias» e chamava ao cão «Capitão».",
        (
            "{Rosa|— Não!} — gritou Rosa.\n\n"
            "{Carlos|— Sim!} — disse Carlos.\n\n"
            "{Rosa|— Nunca.}\n\n"
            "{Carlos|— Veremos.}"
        ),
        "{Tomás|— Vem cá, disse Tomás, é tarde.}".replace("cá, disse Tomás, é", "cá,} disse Tomás, {Tomás|é"),
        "Helena abriu a porta e perguntou:\n\n{Helena|— Quem está aí?}",
    ],
    "it": [
        "{Anna|— Vieni,} disse Anna, {Anna|è tardi.}",
        "{Carlo|«Non lo so»,} rispose Carlo.".replace("»,}", "»},"),
        '{Giulia|"Che vita!"} esclamò Giulia con un sospiro.',
        "{Marco|- Addosso} - gridava Marco - {Marco|venite!}",
        "{Nina|– Che fai?} – mi domandò Nina.\n\n{|– Niente.}",
        "Il vecchio pescatore abbassò la voce e disse: {Vecchio pescatore|«La barca è partita».}".replace(
            "».}", "»}."
        ),
        "Leggeva «I promessi sposi» e chiamava il cane «Capitano».",
        "{Lucia|«No!»} gridò Lucia.\n\n{Renzo|«Sì!»} disse Renzo.\n\n{Lucia|«Mai.»}\n\n{Renzo|«Vedremo.»}",
        "{Paolo|“Vengo subito”}, disse Paolo.",
        "{|«Voi avete ragione,} disse il vescovo, {|andiamo.»}",
    ],
    "ar": [
        "{سلمى|«أين القارب؟»} قالت سلمى.",
        "قال أحمد: {أحمد|«لا أعرف»}.",
        'سألت ليلى: {ليلى|"من هناك؟"}\n\nأجاب عمر: {عمر|"أنا عمر"}.',
        "قالت الجدة: {الجدة|«اسمعي يا ابنتي»}.",
        'صاح توماس: {توماس|"انتظروا!"} ثم ركض.',
        "وقالت مريم: {مريم|“لقد ذهبوا جميعا”}.",
        'قال أحمد: {أحمد|"تعال"}\n\nقالت ليلى: {ليلى|"لن آتي"}\n\n{أحمد|"لماذا؟"}\n\n{ليلى|"لأني متعبة"}',
        "كان اسم الكتاب «ألف ليلة» وكان يحبه.",
        "{|— من هناك؟}\n\n{|— لا أحد.}",
    ],
    "he": [
        'אמר דוד: {דוד|"איפה הסירה?"}',
        '{שרה|"אני לא יודעת,"} אמרה שרה.',
        "{יוסף|”בוא הנה,”} אמר יוסף.",
        "שאלה רחל: {רחל|”מי שם?”}\n\nענה משה: {משה|”זה אני.”}",
        '{הילדה|"רק רגע!"} קראה הילדה.',
        'חייל צה"ל נכנס לחדר. אמר אורי: {אורי|"שלום."}',
        'היא קראה את הספר "תמול שלשום" פעמיים.',
        '{דוד|"לא!"} צעק דוד.\n\n{לאה|"כן!"} אמרה לאה.\n\n{דוד|"לעולם לא."}\n\n{לאה|"נראה."}',
        "{|– מי שם?}\n\n{|– אף אחד.}",
    ],
}
SPEECH = re.compile(r"\{([^|{}]*)\|([^{}]*)\}")


def test_every_language_has_eight_cases() -> None:
    assert set(CASES) == set(LANGUAGES)
    assert all(len(cases) >= 8 for cases in CASES.values())


@pytest.mark.parametrize(
    ("language", "case"), [(language, case) for language, cases in CASES.items() for case in cases]
)
def test_case(language: str, case: str) -> None:
    wanted = [(match[1], match[2]) for match in SPEECH.finditer(case)]
    text = SPEECH.sub(r"\2", case)
    story = Rules(actions=False, sounds=False).annotate(Document(id="case", text=text, language=language))
    names = {character.speaker_id: character.name for character in story.cast}
    found: list[tuple[str, str]] = []
    for event in parse(story.text):
        if isinstance(event, Open):
            found.append((names[event.speaker or ""], ""))
        elif isinstance(event, Text) and found and not found[-1][1]:
            found[-1] = (found[-1][0], event.text)
    guessed = [text[start:end] for start, end in story.doubtful]
    spoken = {speech for _, speech in found} | set(guessed)
    assert spoken == {speech for _, speech in wanted}
    for name, speech in wanted:
        if name:
            assert (name, speech) in found
