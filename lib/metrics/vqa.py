"""Short free answers: the VQA / EvalAI normaliser, VQA accuracy, TextVQA, VizWiz and VSR, and the files their servers take.

Definitions: dataengine specification, sections 7.5 and 7.7 and Appendix A.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from lib.errors import DataError
from lib.metrics.choice import score_choices
from lib.metrics.tally import Mark, QuestionId, Record, Tally, count_marks, field, question_key, texts_by_question

PUNCTUATION = frozenset(';/[]"{}()=+\\_-><@`,?!')
PERIOD = re.compile(r"\.(?!\d)")
PERIODS = 32  # the published pattern takes at most so many: a flag that landed in the place of the count
ARTICLES = ("a", "an", "the")
COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(COUNTED)}

# Each is restored from the spelling that lacks one of its apostrophes (VQA evaluation code, manualMap; Appendix A).
CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll
how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't
she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas
wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
CONTRACTIONS = {"somebody'd": "somebodyd"} | {
    word[:place] + word[place + 1 :]: word for word in CONTRACTED.split() for place, letter in enumerate(word) if letter == "'"
}

ANNOTATORS = 10  # answers per question in every benchmark scored here
ENOUGH_ANNOTATORS = 3

SCENE_TEXT = "Reference OCR token: "
OLDER_QUESTION = re.compile("Question: (.*?) Short answer:", re.DOTALL)


def normalise_answer(text: str) -> str:
    """The answer as EvalAI compares it: lower case, no articles, digits for number words, punctuation out, contractions restored.

    A punctuation mark goes without trace if it touches a blank anywhere in the text, and turns into a blank otherwise.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = text.strip().replace("\n", " ").replace("\t", " ").strip()
    spaced = text
    for mark in PUNCTUATION.intersection(text):
        text = text.replace(mark, "" if f"{mark} " in spaced or f" {mark}" in spaced else " ")
    words = (NUMBERS.get(word, word) for word in PERIOD.sub("", text, count=PERIODS).split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """VQA accuracy, 0 to 1: min(1, agreeing annotators / 3), averaged over leaving out one of the ten in turn; all normalised."""
    _check_annotators(answers)
    given = normalise_answer(prediction)
    agreeing = sum(count for answer, count in Counter(answers).items() if normalise_answer(answer) == given)
    without_one_of_them = min(1.0, (agreeing - 1) / ENOUGH_ANNOTATORS)
    without_another = min(1.0, agreeing / ENOUGH_ANNOTATORS)
    return (agreeing * without_one_of_them + (ANNOTATORS - agreeing) * without_another) / ANNOTATORS


def vizwiz_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """VizWiz val as MiniGPT-4 scores it, 0 to 1: min(1, agreeing annotators / 3), lower-cased and not normalised further."""
    _check_annotators(answers)
    return min(1.0, [answer.lower() for answer in answers].count(prediction.lower()) / ENOUGH_ANNOTATORS)


def answer_texts(annotation: Record) -> list[str]:
    """The annotators' answers of a question of VQAv2, OKVQA, TextVQA or VizWiz: texts, or records that hold them."""
    answers = field(annotation, "answers", f"question {annotation.get('question_id', annotation.get('image'))!r}")
    return [answer if isinstance(answer, str) else field(answer, "answer", "an annotator's answer") for answer in answers]


def score_answers(
    references: Mapping[QuestionId, Sequence[str]], predictions: Mapping[QuestionId, str], accuracy: Callable[[str, Sequence[str]], float]
) -> Tally:
    """The soft marks of a set by `vqa_accuracy` (VQAv2 val, OKVQA) or `vizwiz_accuracy`; a question without a prediction gets 0."""
    if not references:
        raise DataError("no reference answers to compare with; give the annotations of at least one question")
    given = texts_by_question(predictions)
    texts = ((given.get(question_key(question_id)), answers) for question_id, answers in references.items())
    return count_marks(None if text is None else accuracy(text, answers) for text, answers in texts)


def textvqa_question(prompt: str) -> str:
    """The question in a recorded TextVQA prompt, lower-cased: with scene text before or behind it, without, or in the older layout."""
    lines = prompt.split("\n")
    if prompt.startswith("OCR tokens: "):
        found = OLDER_QUESTION.search(prompt)
        if found:
            return found.group(1).lower()
    elif SCENE_TEXT in prompt and len(lines) == 3:
        return lines[prompt.startswith(SCENE_TEXT.strip())].lower()
    elif len(lines) == 2:
        return lines[0].lower()
    raise DataError(
        f"the TextVQA prompt {prompt!r} has no question; it needs the question, its scene text and the request on lines of their own"
    )


def score_textvqa(annotations: Sequence[Record], predictions: Sequence[Record]) -> Tally:
    """VQA accuracy of answer lines {question_id: the image's id, prompt, text}, matched by image and question.

    A question without a prediction gets 0; the published script leaves it out of the mean.
    """
    names = ("image_id", "question")
    known = {}
    for annotation in annotations:
        image_id, question = (field(annotation, name, "a TextVQA annotation") for name in names)
        known[image_id, question.lower()] = answer_texts(annotation)
    marks: list[Mark] = []
    answered = set()
    for line in predictions:
        image_id, prompt, text = (field(line, name, "a TextVQA prediction") for name in ("question_id", "prompt", "text"))
        key = image_id, textvqa_question(prompt)
        if key not in known:
            raise DataError(f"TextVQA image {image_id!r} has no question {key[1]!r}; are annotations and predictions of the same split?")
        marks.append(vqa_accuracy(text, known[key]))
        answered.add(key)
    return count_marks([*marks, *(None for key in known if key not in answered)])


def score_vsr(labels: Mapping[str, str], predictions: Mapping[str, str]) -> Tally:
    """VSR: the prediction is the label, true or false, in any case; a statement without a prediction is wrong."""
    odd = next((label for label in labels.values() if label.lower() not in ("true", "false")), None)
    if odd is not None:
        raise DataError(f"VSR has a label {odd!r}; labels are true or false, bring the annotation again")
    score = score_choices(labels, predictions)
    return Tally(score.correct, len(labels), score.missing)


def vqav2_upload(question_ids: Iterable[QuestionId], predictions: Mapping[QuestionId, str]) -> list[dict]:
    """The list that VQAv2's server takes, in the order of the whole split; a question without a prediction has an empty answer."""
    given = texts_by_question(predictions)
    return [{"question_id": its, "answer": normalise_answer(given.get(question_key(its), ""))} for its in question_ids]


def vizwiz_upload(questions: Sequence[Record], predictions: Mapping[QuestionId, str]) -> list[dict]:
    """The list that VizWiz's server takes, for question lines {question_id, image}; every one has to be answered."""
    given = texts_by_question(predictions)
    upload = []
    for question in questions:
        question_id, image = (field(question, name, "a VizWiz question") for name in ("question_id", "image"))
        if question_key(question_id) not in given:
            raise DataError(f"VizWiz question {question_id!r} has no prediction; the server takes complete lists only, infer it first")
        upload.append({"image": image, "answer": normalise_answer(given[question_key(question_id)])})
    return upload


def _check_annotators(answers: Sequence[str]) -> None:
    if len(answers) != ANNOTATORS:
        raise DataError(
            f"a question with {len(answers)} annotators' answers; VQA accuracy is defined for {ANNOTATORS}, bring the annotation again"
        )
