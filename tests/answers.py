r"""Answers as models write them, graded by hand: what the scorer is held to.

A case is a question with its accepted answers and messages that are right, wrong, or say no answer. The label is what a careful
reader would say, not what a scorer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pixel_reasoner.schema.question import AnswerType, Question


class Case(NamedTuple):
    kind: AnswerType
    gold: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = ()
    text: str = "?"
    options: Mapping[str, str] = MappingProxyType({})

    @property
    def question(self) -> Question:
        return Question(
            id="1",
            text=self.text,
            media=(),
            answer=self.gold,
            answer_type=self.kind,
            options=dict(self.options),
        )


COLORS = {"A": "red", "B": "blue", "C": "green", "D": "dark blue"}
YES_NO = {"A": "Yes", "B": "No"}
SIDES = {
    "A": "The dog is on the left side of the car.",
    "B": "The dog is on the right side of the car.",
}
MATERIALS = {
    "A": "rubber",
    "B": "cotton",
    "C": "kevlar",
    "D": "leather",
    "E": "The image does not feature the object.",
}
LETTERS = {"A": "B", "B": "C", "C": "A", "D": "D"}
NUMBERS = {"A": "3", "B": "4", "C": "5", "D": "13"}

CASES = (
    # --- choice ---
    Case(
        AnswerType.CHOICE,
        ("C",),
        options=COLORS,
        text="What is the colour of the glove?",
        right=(
            r"\boxed{C}",
            r"\boxed{c}",
            r"\boxed{(C)}",
            r"\boxed{(C) green}",
            r"\boxed{C. green}",
            r"\boxed{C: green}",
            r"\boxed{C) Green}",
            r"\boxed{\text{C}}",
            r"\boxed{\text{C. green}}",
            r"\boxed{\mathbf{C}}",
            r"\boxed{green}",
            r"\boxed{Green.}",
            r"\boxed{Option C}",
            r"\boxed{C - green}",
            r"\boxed{C green}",
            r"I see a glove. \boxed{A} would be red, but on a closer look it is green: \boxed{C}",
            r"First I thought \boxed{B}. After zooming in: \boxed{C}.",
            "<think>It may be A or B.</think>\n<answer>C</answer>",
            "<answer>\n(C)\n</answer>",
            "<answer>green</answer>",
            "<answer>A</answer> Wait, let me look again. <answer>C</answer>",
            "A closer look shows a glove.\nThe answer is C.",
            "Based on the zoomed crop, the answer is (C)",
            "Based on the zoomed crop, the answer is (C) green.",
            "A glove can be seen at the top. The correct answer is: C",
            "The crop shows it clearly.\n\nAnswer: C",
            "The crop shows it clearly.\n\n**Answer:** C",
            "The crop shows it clearly.\n\n**Answer: C**",
            "Answer: green",
            "The final answer is **C**.",
            "The answer should be C, since the glove is green.",
            "C",
            "C.",
            "(C)",
            "**C**",
            "c",
            "C. green",
            "green",
            "Green.",
            "The glove is green.",
            "I look at the hand.\nThe glove is green.",
            "A hand and a car can be seen.\nSo it must be option C.",
            "At first it seems dark. Then I zoom in. Therefore I choose (C).",
        ),
        wrong=(
            r"\boxed{A}",
            r"\boxed{D}",
            r"\boxed{dark blue}",
            r"\boxed{yellow}",
            r"\boxed{A or C}",
            r"\boxed{(A) or (C)}",
            r"\boxed{B, C}",
            r"\boxed{not green}",
            r"It is C. \boxed{B}",
            "The answer is (A). Answer: B",
            "<answer>B</answer>",
            "Based on the crop of A, the answer is (B)",
            "A glove can be seen. The glove is red.",
            "The glove is dark blue.",
            "B",
            "(D) dark blue",
            "The answer is unclear.",
        ),
        unparsed=(
            "",
            "I cannot see the glove.",
            "A glove lies on the table.",
            "I need a closer look at the hand.",
            "Can it be seen?\nA hand, a car, a dog.",
            "It is either red or green.",
            r"\boxed{}",
            r"The answer lies in the \boxed{",
        ),
    ),
    Case(
        AnswerType.CHOICE,
        ("A",),
        options=MATERIALS,
        text="What is the material of the glove?",
        right=(
            "The glove is rubber, so the answer is A.",
            "The glove is made of rubber.",
            r"Looking at it, The glove is rubber. \boxed{A}",
            r"\boxed{rubber}",
            r"\boxed{A. Rubber}",
            "Rubber",
            "The best answer is: A",
            "The best answer is: (A)",
            "Let me check each.\n(B) cotton: no.\n(C) kevlar: no.\nThe answer is A",
            "Options B, C and D do not fit. Answer: (A) rubber",
        ),
        wrong=(
            r"\boxed{E}",
            r"\boxed{The image does not feature the object.}",
            "The image does not feature the object.",
            "The glove is made of leather.",
            r"A rubber glove would shine. \boxed{D}",
            "A glove. The best answer is: B",
        ),
        unparsed=(
            "A material that I do not know.",
            "Rubber and cotton both fit.",
        ),
    ),
    Case(
        AnswerType.CHOICE,
        ("B",),
        options=YES_NO,
        text="Is there a dog?",
        right=(
            r"\boxed{No}",
            r"\boxed{B}",
            r"\boxed{no}",
            r"\boxed{B. No}",
            "No",
            "No.",
            "(B) No",
            "B",
            "I zoom in.\nThere is none. The answer is no.",
        ),
        wrong=(
            r"\boxed{Yes}",
            r"\boxed{A}",
            "Yes",
            r"\boxed{on}",
            "No dog at first sight, but look closer: the answer is yes.",
        ),
        unparsed=("A dog may be there. It is hard to tell.",),
    ),
    Case(
        AnswerType.CHOICE,
        ("B",),
        options=SIDES,
        text="Is the dog on the left or right side of the car?",
        right=(
            "The dog is on the right side of the car.",
            r"\boxed{The dog is on the right side of the car}",
            r"\boxed{B}",
            r"\boxed{B. The dog is on the right side of the car.}",
            "The car stands at x=0.3 and the dog at x=0.7.\nThe dog is on the right side of the car.",
            "the dog is on the right side of the car",
        ),
        wrong=(
            "The dog is on the left side of the car.",
            r"\boxed{A}",
            r"\boxed{left}",
            "The dog is on the right side of the car, it seems; but no.\n\\boxed{A. The dog is on the left side of the car.}",
        ),
        unparsed=("The dog and the car are far apart.",),
    ),
    Case(
        AnswerType.CHOICE,
        ("A",),
        options=LETTERS,
        text="Which letter is on the sign?",
        right=(
            r"\boxed{A}",
            r"\boxed{A. B}",
            r"\boxed{(A) B}",
            "The answer is (A).",
        ),
        wrong=(
            r"\boxed{C}",
            r"\boxed{C. A}",
            r"\boxed{B}",
        ),
    ),
    Case(
        AnswerType.CHOICE,
        ("B",),
        options=NUMBERS,
        text="How many birds are there?",
        right=(
            r"\boxed{4}",
            r"\boxed{B. 4}",
            "There are 4 birds.",
            "I count 1, 2, 3, 4.\nThe answer is 4.",
            "4",
        ),
        wrong=(
            "There are 13 birds.",
            r"\boxed{3}",
            r"\boxed{14}",
            r"\boxed{A}",
        ),
    ),
    # --- count ---
    Case(
        AnswerType.INTEGER,
        ("7",),
        text="How many people wear a hat?",
        right=(
            r"\boxed{7}",
            r"\boxed{seven}",
            r"\boxed{7 people}",
            r"\boxed{7.0}",
            r"\boxed{\text{seven}}",
            r"\boxed{3 + 4 = 7}",
            r"Three on the left and four on the right: \boxed{7}",
            "<answer>7</answer>",
            "<answer>Seven people.</answer>",
            "3 on the left, 4 on the right. The answer is 7.",
            "There are 3 on the left and 4 on the right, so the answer is seven.",
            "There are 3 men and 4 women with hats.\nIn total there are 7 of them.",
            "Answer: 7",
            "**Answer**: 7",
            "7",
            "7.",
            "Seven",
            "There are 7 people.",
        ),
        wrong=(
            r"\boxed{6}",
            r"\boxed{17}",
            r"\boxed{7.5}",
            r"\boxed{-7}",
            r"\boxed{6 or 7}",
            r"\boxed{many}",
            r"There are 7 people, 2 of them without a hat. \boxed{5}",
            "There are 7 people. The answer is 5.",
            "zero",
            "70",
        ),
        unparsed=(
            "There are many people.",
            "I see 3 on the left and 4 on the right.",
            "Let me count them again.",
            "7 people stand there.\nSome wear hats.",
        ),
    ),
    Case(
        AnswerType.INTEGER,
        ("0",),
        text="How many dogs are there?",
        right=(r"\boxed{0}", r"\boxed{zero}", "Zero.", "The answer is 0."),
        wrong=(r"\boxed{1}", "10", r"\boxed{o}"),
        unparsed=("There are cats only.",),
    ),
    Case(
        AnswerType.INTEGER,
        ("21",),
        text="How many windows are there?",
        right=(r"\boxed{21}", r"\boxed{twenty-one}", "twenty-one windows"),
        wrong=(r"\boxed{twenty}", r"\boxed{2 1}", "12"),
    ),
    # --- numbers ---
    Case(
        AnswerType.NUMBER,
        ("12%",),
        text="How large is the part of coal?",
        right=(
            r"\boxed{12%}",
            r"\boxed{12\%}",
            r"\boxed{12 %}",
            r"\boxed{12 percent}",
            r"\boxed{12}",
            r"\boxed{12.0%}",
            "The page shows 88 % for the rest.\nSo the answer is 12 %.",
            "12 per cent",
        ),
        wrong=(r"\boxed{0.12}", r"\boxed{1.2%}", r"\boxed{12 kg}", r"\boxed{88%}", "120%"),
        unparsed=("The page shows 88 % for gas and 12 % for coal.",),
    ),
    Case(
        AnswerType.NUMBER,
        ("45",),
        text="What percentage of people voted?",
        right=(r"\boxed{45%}", r"\boxed{45}", "45 percent", r"\boxed{45 \%}"),
        wrong=(r"\boxed{0.45}", r"\boxed{54%}"),
    ),
    Case(
        AnswerType.NUMBER,
        ("45",),
        text="How many people voted?",
        right=(r"\boxed{45}", r"\boxed{45 people}", "forty-five"),
        wrong=(r"\boxed{45%}", r"\boxed{45 million}"),
    ),
    Case(
        AnswerType.NUMBER,
        ("0.25",),
        text="What is the ratio?",
        right=(r"\boxed{0.25}", r"\boxed{.25}", r"\boxed{0.250}"),
        wrong=(r"\boxed{25}", r"\boxed{2.5}", r"\boxed{0,25}"),
    ),
    Case(
        AnswerType.NUMBER,
        ("$3.5 million",),
        text="What was the revenue?",
        right=(
            r"\boxed{$3.5 million}",
            r"\boxed{3.5 million dollars}",
            r"\boxed{\$3,500,000}",
            r"\boxed{3500000}",
            r"\boxed{3,500,000 USD}",
            "The answer is $3.5 million.",
            "3.5 million",
        ),
        wrong=(
            r"\boxed{3.5}",
            r"\boxed{€3.5 million}",
            r"\boxed{$3.5 billion}",
            r"\boxed{35 million}",
        ),
    ),
    Case(
        AnswerType.NUMBER,
        ("1,250",),
        text="How many tickets were sold?",
        right=(r"\boxed{1,250}", r"\boxed{1250}", r"\boxed{1 250}", r"\boxed{1250 tickets}"),
        wrong=(r"\boxed{1.250}", r"\boxed{1,25}", r"\boxed{12,50}", r"\boxed{125}"),
    ),
    Case(
        AnswerType.NUMBER,
        ("5 kg",),
        text="How heavy is the parcel?",
        right=(r"\boxed{5 kg}", r"\boxed{5}", r"\boxed{5 kilograms}", r"\boxed{5kg}", "5.0 kg"),
        wrong=(r"\boxed{5 g}", r"\boxed{5 lbs}", r"\boxed{6 kg}"),
    ),
    Case(
        AnswerType.NUMBER,
        ("-3",),
        text="What is the temperature?",
        right=(r"\boxed{-3}", r"\boxed{−3}", r"\boxed{-3 °C}", "The answer is -3."),
        wrong=(r"\boxed{3}", r"\boxed{-33}"),
    ),
    Case(
        AnswerType.NUMBER,
        ("1/2",),
        text="Which fraction is on the sign?",
        right=(r"\boxed{1/2}", "The answer is 1/2."),
        wrong=(r"\boxed{2/1}", r"\boxed{1}"),
    ),
    # --- text ---
    Case(
        AnswerType.TEXT,
        ("no",),
        text="Is the light on?",
        right=(
            r"\boxed{no}",
            r"\boxed{No.}",
            r"\boxed{\text{No}}",
            r"\boxed{No, it is off}",
            "No",
            "<answer>no</answer>",
            "The answer is no.",
        ),
        wrong=(r"\boxed{on}", r"\boxed{yes}", r"\boxed{not sure}", r"\boxed{yes, no doubt}"),
        unparsed=("I look at the lamp.\nIt hangs from the ceiling.",),
    ),
    Case(
        AnswerType.TEXT,
        ("listen",),
        text="What does the sign say?",
        right=(
            r"\boxed{listen}",
            r"\boxed{LISTEN}",
            r'\boxed{"Listen"}',
            "Listen!",
            "Answer: listen",
        ),
        wrong=(
            r"\boxed{silent}",
            r"\boxed{listens}",
            r"\boxed{do not listen}",
            "I cannot read it.",
        ),
        unparsed=("",),
    ),
    Case(
        AnswerType.TEXT,
        ("lion",),
        text="Which animal is on the flag?",
        right=(
            r"\boxed{lion}",
            r"\boxed{the lion}",
            r"\boxed{a lion}",
            r"\boxed{Lion.}",
            "The answer is a lion.",
        ),
        wrong=(r"\boxed{sea lion}", r"\boxed{lioness}", r"\boxed{lion, tiger}"),
    ),
    Case(
        AnswerType.TEXT,
        ("2019-2020",),
        text="Which season is shown?",
        right=(
            r"\boxed{2019-2020}",
            r"\boxed{2019–2020}",
            "The answer is 2019-2020.",
        ),
        wrong=(r"\boxed{-1}", r"\boxed{2020-2019}", r"\boxed{2019}", r"\boxed{2020-2021}"),
    ),
    Case(
        AnswerType.TEXT,
        ("gray", "grey"),
        text="Which colour is the cat?",
        right=(r"\boxed{gray}", r"\boxed{grey}", "Grey."),
        wrong=(r"\boxed{dark grey}", r"\boxed{green}"),
    ),
    Case(
        AnswerType.TEXT,
        ("café",),
        text="What does the shop sell? One word.",
        right=(
            r"\boxed{café}",
            r"\boxed{Café}",
            r"\boxed{cafe\u0301}".replace("\\u0301", "\u0301"),
        ),
        wrong=(r"\boxed{cafés}", r"\boxed{coffee}"),
    ),
    # --- list ---
    Case(
        AnswerType.LIST,
        ("troubles, the siege of krishnapur",),
        text="Which two books are named?",
        right=(
            r"\boxed{Troubles, The Siege of Krishnapur}",
            r"\boxed{The Siege of Krishnapur and Troubles}",
            r"\boxed{Troubles; The Siege of Krishnapur}",
            r"\boxed{['Troubles', 'The Siege of Krishnapur']}",
            "Answer: The Siege of Krishnapur, Troubles",
        ),
        wrong=(
            r"\boxed{not troubles, nor the siege of krishnapur}",
            r"\boxed{Troubles}",
            r"\boxed{Troubles, The Siege of Krishnapur, The Singapore Grip}",
        ),
    ),
    Case(
        AnswerType.LIST,
        ("1,000, 2,000",),
        text="Which two numbers are printed in bold?",
        right=(r"\boxed{1,000, 2,000}", r"\boxed{2,000 and 1,000}", r"\boxed{1,000; 2,000}"),
        wrong=(r"\boxed{1,000}", r"\boxed{1, 2}", r"\boxed{1,000, 2,000, 3,000}"),
    ),
    # --- ANLS ---
    Case(
        AnswerType.ANLS,
        ("Bangladesh",),
        text="Which country exports most?",
        right=(
            r"\boxed{Bangladesh}",
            r"\boxed{bangladesh}",
            r"\boxed{Bangladsh}",
            "Bangladesh",
            "The answer is Bangladesh.",
        ),
        wrong=(r"\boxed{India}", r"\boxed{the country that exports most is Bangladesh}"),
        unparsed=("The page lists countries.\nOne exports most.",),
    ),
    Case(
        AnswerType.ANLS,
        ("47", "47%"),
        text="How many percent walk?",
        right=(r"\boxed{47}", r"\boxed{47%}", "Answer: 47%"),
        wrong=(r"\boxed{42}", r"\boxed{74}", r"\boxed{4}"),
    ),
    # --- relaxed ---
    Case(
        AnswerType.RELAXED,
        ("100",),
        text="What is the value in 2010?",
        right=(
            r"\boxed{100}",
            r"\boxed{104}",
            r"\boxed{95}",
            r"\boxed{105}",
            r"\boxed{about 98}",
            r"\boxed{$101}",
            "The answer is 99.",
        ),
        wrong=(r"\boxed{106}", r"\boxed{94}", r"\boxed{10}", r"\boxed{high}", r"\boxed{90 or 100}"),
    ),
    Case(
        AnswerType.RELAXED,
        ("50%",),
        text="Which share is it?",
        right=(r"\boxed{50%}", r"\boxed{0.5}", r"\boxed{51 percent}", r"\boxed{0.51}"),
        wrong=(r"\boxed{5%}", r"\boxed{60%}", r"\boxed{5}"),
    ),
    Case(
        AnswerType.RELAXED,
        ("Dark brown",),
        text="Which bar is highest?",
        right=(r"\boxed{Dark brown}", r"\boxed{dark brown.}", "Dark Brown"),
        wrong=(r"\boxed{brown}", r"\boxed{darkbrown}"),
    ),
)
