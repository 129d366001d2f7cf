"""Let vision-language models look again: zoom into pictures and select frames while they reason.

    import pixel_reasoner as pr

    model = pr.load()
    trace = model.ask("Which letter is on the red circle?", "scene.png")
    trace.answer, trace.steps, trace.crops()

`__init__.pyi` lists what is exported. A name is imported when it is first used, so importing the package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
