"""Messages graded by hand that were written after the rules of extraction, to see whether the rules generalise."""

from __future__ import annotations

from answers import Case
from pixel_reasoner.schema.question import AnswerType

FRUIT = {"A": "apple", "B": "banana", "C": "cherry", "D": "dragon fruit"}
LEFT_RIGHT = {"A": "left", "B": "right"}
CITIES = {"A": "北京", "B": "上海", "C": "广州"}

HELD_OUT_CASES = (
    Case(
        AnswerType.CHOICE,
        ("B",),
        options=FRUIT,
        text="Which fruit is in the bowl?",
        right=(
            "Looking at the bowl, I can see a yellow, curved fruit. This is a banana, which corresponds to option B.",
            "The answer to the question is B, the banana.",
            "Based on the image, the fruit in the bowl is a **banana**.",
            "**B. banana**",
            "The fruit is a banana.\n\nFinal answer: **(B) banana**",
            "So, the answer is:\n\n\\[\n\\boxed{B}\n\\]",
            "After zooming in, I can confirm that it is a banana rather than an apple.",
            "Correct answer: B",
            "The answer must be B; an apple would be round.",
            "B, because the fruit is yellow.",
            "I'd go with B.",
            "**Solution:** The bowl has a banana.\n\n**Answer:** $\\boxed{\\text{B}}$",
            "<think>\nThe user asks about the fruit. I see yellow. Could be (A)? No.\n</think>\n\n**B**",
            "The only yellow fruit is the banana, therefore (B).",
            "Answer: **B) banana**.",
        ),
        wrong=(
            "This is a cherry, not a banana.",
            "The answer is (D).",
            "I am confident that it's an apple.",
            "Answer: A (apple)",
        ),
        unparsed=(
            "I can't tell whether it is an apple or a banana.",
            "The bowl is empty.",
            "Sorry, the image is too dark to answer this question.",
            "The fruit might be B or D.",
        ),
    ),
    Case(
        AnswerType.CHOICE,
        ("A",),
        options=LEFT_RIGHT,
        text="On which side is the lamp?",
        right=(
            "The lamp is on the left.",
            "Left side.",
            "It's on the left, not on the right.",
            "\\boxed{\\text{left}}",
            "The lamp is to the left of the bed.",
        ),
        wrong=("The lamp is on the right.", "The answer is right."),
        unparsed=("The lamp is between the left and the right bed.",),
    ),
    Case(
        AnswerType.CHOICE,
        ("B",),
        options=CITIES,
        text="这是哪个城市？",
        right=(
            "这是上海。",
            "正确答案应该是B。",
            "根据图片，答案是 **B. 上海**。",
            "我认为是上海，不是北京。",
            "本题选B。",
        ),
        wrong=("这是北京。", "答案：C"),
        unparsed=("无法判断是哪个城市。", "北京或上海。"),
    ),
    Case(
        AnswerType.INTEGER,
        ("4",),
        text="How many chairs are in the room?",
        right=(
            "There are four chairs in the room.",
            "I can see 4 chairs: 2 at the table and 2 by the window.",
            "Counting carefully: one by the door, two at the desk, one in the corner. That makes 4.",
            "The answer is four (4) chairs.",
            "**Answer: 4**",
            "4 chairs.",
            "The room has a total of four chairs.",
            "2 + 2 = **4**",
            "So there are $2 + 2 = \\boxed{4}$ chairs.",
            "En la habitación hay cuatro sillas.",
            "Im Zimmer stehen vier Stühle.",
            "房间里有四把椅子。",
            "The final count is 4.",
        ),
        wrong=(
            "There are no chairs.",
            "five",
            "The answer is 3, although 4 were expected.",
            "房间里没有椅子。",
        ),
        unparsed=(
            "Three or four.",
            "There are 4 or 5 chairs.",
            "I can't count the chairs.",
            "The room is too dark.",
            "四五把椅子。",
        ),
    ),
    Case(
        AnswerType.NUMBER,
        ("2500",),
        text="What is the price?",
        right=(
            "2.5k",
            "$2,500.00",
            "The price is 2,500 dollars.",
            "2.5 \\times 10^3",
            "\\boxed{\\$2{,}500}",
            "2.5 thousand dollars",
            "El precio es 2.500 euros.",
        ),
        wrong=("250", "2.5", "$25k"),
        unparsed=("The price is not shown.", "Between $2,000 and $2,500."),
    ),
    Case(
        AnswerType.TEXT,
        ("42nd Street",),
        text="Which street is it?",
        right=(
            "42nd Street",
            'The sign reads "42nd Street".',
            "The answer is 42nd Street.",
            "Answer: **42nd Street**",
            "\\boxed{\\text{42nd Street}}",
        ),
        wrong=("43rd Street", "The answer is 5th Avenue."),
    ),
    Case(
        AnswerType.TEXT,
        ("no",),
        text="Is the door open?",
        right=(
            "No, the door is closed.",
            "Answer: No.",
            "<answer>No</answer>",
            "The answer is no, since the lock is shut.",
        ),
        wrong=("Yes, the door is open.",),
    ),
)
