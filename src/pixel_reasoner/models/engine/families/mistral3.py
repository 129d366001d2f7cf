"""Mistral Small 3.1 and 3.2, Ministral 3: images of any size, with a token at the end of each row."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily

FAMILIES.register("mistral3", DecoderFamily())
