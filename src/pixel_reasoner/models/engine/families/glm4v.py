"""GLM-4.1V, GLM-4.5V and GLM-4.6V: full attention with 3D positions."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._grid_images import GridDecoderFamily

FAMILIES.register("glm4v", GridDecoderFamily())
FAMILIES.register("glm4v_moe", GridDecoderFamily())
FAMILIES.register("glm46v", GridDecoderFamily())
