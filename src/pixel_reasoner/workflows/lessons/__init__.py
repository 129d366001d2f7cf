"""Lessons for classrooms, made from traces: predict where to look, reveal, explain.

lesson.py      records of a lesson, and the sealed form of its answers
build.py       one trace -> one step
gather.py      traces of runs, own rows and PixelWorld levels -> traces, with everything that is skipped
levels.py      PixelWorld exercises of five levels
page.py, slides.py, h5p.py, notebook.py, papers.py, animation and strip of `reports`: the outputs
write.py       a whole lesson as one folder
"""

from pixel_reasoner.workflows.lessons.lesson import Lesson, LessonStep, Look
from pixel_reasoner.workflows.lessons.page import load_lesson
from pixel_reasoner.workflows.lessons.write import LessonSpec, WrittenLesson, make_lesson

__all__ = [
    "Lesson",
    "LessonSpec",
    "LessonStep",
    "Look",
    "WrittenLesson",
    "load_lesson",
    "make_lesson",
]
